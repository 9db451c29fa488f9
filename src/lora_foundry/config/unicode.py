"""Texts that no file and no tokenizer takes: Python's may hold halves of surrogate pairs, UTF-8 may not."""

from __future__ import annotations


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8.

    JSON and YAML bring half a pair as an escape (a caption cut in the middle of an emoji), the command line and
    files' names a byte that is not UTF-8.
    """
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def printable(text: str) -> str:
    """``text`` with what UTF-8 cannot hold as escapes, for messages."""
    return text if is_unicode(text) else text.encode("utf-8", "backslashreplace").decode()
