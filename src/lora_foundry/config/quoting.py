"""Commands that are printed: words as a shell reads them, and values as Hydra reads them behind ``key=``.

Each quotes for itself: ``shell(["python", "-m", "src.train", override("data.path", "/my photos")])`` is
``python -m src.train 'data.path='"'"'/my photos'"'"''``.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.-]*")  # what Hydra's grammar reads as the text that it is
_VALUES = re.compile(
    r"(?i)true|false|null|inf|nan|\.\d[\d_]*(?:e[+-]?\d[\d_]*)?"
)  # and what it reads as something else
_INTERPOLATION = re.compile(r"(\\*)\$\{")
_TOKEN = re.compile(r"\$'((?:[^'\\]|\\.)*)'|((?:[^\s'\"$]|'[^']*'|\"[^\"]*\"|\$(?!'))+)")
_ESCAPE = re.compile(r"((?:\\x[0-9a-f]{2})+)|\\(.)")
_BEFORE_QUOTE = re.compile(r"(\\*)('|\Z)")

Value = str | int | float | None | list["Value"] | tuple["Value", ...]


def shell(words: Iterable[str | os.PathLike[str]]) -> str:
    """A command line that bash and zsh split into ``words`` again; always a single line that can be printed."""
    return " ".join(_word(os.fspath(word)) for word in words)


def split(line: str) -> list[str]:
    """The words of a line that :func:`shell` made.

    Raises:
        ValueError: For a line with a quote that is not closed.
    """
    words = []
    for found in _TOKEN.finditer(line):
        escaped, plain = found.groups()
        words += shlex.split(plain) if escaped is None else [_ESCAPE.sub(_unescaped, escaped)]
    if shell(words) != line:
        return shlex.split(line)  # made by something else, or by hand
    return words


def _unescaped(found: re.Match[str]) -> str:
    octets, letter = found.groups()
    return letter if octets is None else os.fsdecode(bytes.fromhex(octets.replace("\\x", "")))


def override(key: str, value: Value | os.PathLike[str]) -> str:
    """``key=value``, the value quoted for Hydra's grammar where it has to be; the shell's quotes come on top.

    Args:
        key: A dotted key, or a group.
        value: What the key is to have, to the letter: ``${`` in a text is no interpolation.
    """
    return f"{key}={_value(os.fspath(value) if isinstance(value, os.PathLike) else value)}"


def quoted(text: str) -> str:
    """``text`` in the quotes of Hydra's grammar, as it was written: ``${`` begins an interpolation still."""
    return f"'{_BEFORE_QUOTE.sub(_before_quote, text)}'"


def _word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(_escaped(letter) for letter in word)}'"


def _escaped(letter: str) -> str:
    """As in ``$'...'``: a line feed would end the line, and a file's name may hold bytes that are no letters."""
    if letter in "\\'":
        return f"\\{letter}"
    return letter if letter.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))


def _value(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower() if value is not None else "null"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_value, value))}]"
    return repr(value)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _VALUES.fullmatch(text):
        return text
    return quoted(_INTERPOLATION.sub(r"\1\1\\${", text))


def _before_quote(found: re.Match[str]) -> str:
    backslashes, quote = found.groups()
    return backslashes * 2 + (f"\\{quote}" if quote else "")
