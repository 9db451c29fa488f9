"""Caption tables: ``metadata.csv`` and ``metadata.jsonl``, and the text encodings they come in."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lora_foundry.data.records import Findings

PAIRS = (("filename", "prompt"), ("file_name", "text"))
_ALLOWED = " or ".join(",".join(pair) for pair in PAIRS)
# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class Cell(NamedTuple):
    """One entry of a table: where it stands, the image's name and the caption, both as written."""

    where: str
    name: str
    caption: str


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


def read_table(path: Path, label: str, findings: Findings) -> Iterator[Cell]:
    """The rows of a table by its suffix; problems go to ``findings``."""
    reader = read_jsonl if path.suffix.lower() == ".jsonl" else read_csv
    return reader(path, label, findings)


def fits(path: Path) -> bool:
    """Whether a file's first row has the columns of a caption table."""
    first = next(iter(read_table(path, str(path), ignored := Findings())), None)
    return first is not None or not (ignored.faults or ignored.bad_rows)


def read_csv(path: Path, label: str, findings: Findings) -> Iterator[Cell]:
    """The rows of a CSV file with a header of one of :data:`PAIRS`; problems go to ``findings``."""
    try:
        reader = csv.reader(io.StringIO(read_text(path, label, findings), newline=""), strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        pair = _pair(header, label, findings)
        if pair is None:
            return
        name_at, caption_at = header.index(pair[0]), header.index(pair[1])
        for row in reader:
            where = f"{label} line {reader.line_num}"
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                findings.bad_rows.append(
                    f"{where}: got {len(row)} cells, allowed is {len(header)} ({','.join(header)}); "
                    'put a prompt that holds a comma in "quotes"'
                )
                continue
            yield Cell(where, row[name_at].strip(), row[caption_at].strip())
    except TextError as error:
        findings.faults.append(str(error))
    except csv.Error as error:
        findings.faults.append(f"{label}: is no sound CSV near line {reader.line_num} ({error}); check its quotes")


def _pair(header: list[str], label: str, findings: Findings) -> tuple[str, str] | None:
    found = [pair for pair in PAIRS if set(pair) <= set(header)]
    if len(found) == 1 and len(set(header)) == len(header):
        extra = [column for column in header if column not in found[0]]
        if extra:
            findings.note("captions", f"{label}: columns {', '.join(extra)} are not used")
        return found[0]
    got = ",".join(header) or "no header"
    hint = "; separate columns with commas" if any(mark in got for mark in ";\t|") else ""
    findings.faults.append(f"{label}: got columns {got!r}, allowed is {_ALLOWED}{hint}")
    return None


def read_jsonl(path: Path, label: str, findings: Findings) -> Iterator[Cell]:
    """The lines of a JSON-lines file with keys of one of :data:`PAIRS`; problems go to ``findings``."""
    try:
        text = read_text(path, label, findings)
    except TextError as error:
        findings.faults.append(str(error))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{label} line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            findings.bad_rows.append(f"{where}: is no JSON ({error}); write one object a line")
            continue
        found = [pair for pair in PAIRS if isinstance(entry, dict) and set(pair) <= set(entry)]
        if len(found) != 1:
            got = ",".join(sorted(entry)) if isinstance(entry, dict) else f"a {type(entry).__name__}"
            findings.bad_rows.append(f"{where}: got {got}, allowed is an object with {_ALLOWED}")
            continue
        name, caption = (entry[key] for key in found[0])
        if not isinstance(name, str) or not isinstance(caption, str):
            findings.bad_rows.append(f"{where}: got {name!r} and {caption!r}, allowed is two texts")
            continue
        yield Cell(where, name.strip(), caption.strip())
