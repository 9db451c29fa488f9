"""Texts of captions, and the encodings that they come in."""

from __future__ import annotations

import codecs
from pathlib import Path

from lora_foundry.data.records import Findings

# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class TextError(ValueError):
    """A file that is not UTF-8 text; the message says what it is and what to do."""


def read_text(path: Path, label: str, findings: Findings) -> str:
    """The text of a UTF-8 file; a byte order mark is removed and noted.

    Raises:
        TextError: When the file cannot be read or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextError(f"{label}: cannot be read ({error.strerror})") from error
    for mark, name in _WIDE_MARKS:
        if content.startswith(mark):
            raise TextError(f"{label}: begins with the byte order mark of {name}, allowed is UTF-8; save it as UTF-8")
    if content.startswith(codecs.BOM_UTF8):
        findings.note("captions", f"{label}: begins with a UTF-8 byte order mark, which was passed over")
        content = content[len(codecs.BOM_UTF8) :]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TextError(
            f"{label}: byte 0x{content[error.start]:02x} in line {line} is not UTF-8, allowed is UTF-8; save it so"
        ) from error
    if "\0" in text:
        raise TextError(f"{label}: holds zero bytes (UTF-16 without a mark?), allowed is UTF-8; save it as UTF-8")
    return text


def caption_in(path: Path) -> str | None:
    """What a caption file says, for a comparison; None when it cannot be read."""
    try:
        return read_text(path, str(path), Findings()).strip()
    except TextError:
        return None
