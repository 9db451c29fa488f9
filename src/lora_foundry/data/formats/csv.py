"""Caption tables as spreadsheets save them: ``metadata.csv`` with a header, a row an image."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from lora_foundry.data.formats import TableFormat
from lora_foundry.data.records import Cell, Findings
from lora_foundry.data.texts import TextError, read_text

COLUMNS = (("filename", "prompt"), ("file_name", "text"))
"""Names of the columns, or keys, of an image's file and its caption; ours and those of the hub."""
ALLOWED = " or ".join(",".join(pair) for pair in COLUMNS)


class _Csv(TableFormat):
    names = ("metadata.csv",)

    def cells(self, table: Path, label: str, findings: Findings) -> Iterator[Cell]:
        return read_csv(table, label, findings)


def read_csv(path: Path, label: str, findings: Findings) -> Iterator[Cell]:
    """The rows of a CSV file with a header of one pair of ``COLUMNS``; problems go to ``findings``."""
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
    found = [pair for pair in COLUMNS if set(pair) <= set(header)]
    if len(found) == 1 and len(set(header)) == len(header):
        extra = [column for column in header if column not in found[0]]
        if extra:
            findings.note("captions", f"{label}: columns {', '.join(extra)} are not used")
        return found[0]
    got = ",".join(header) or "no header"
    hint = "; separate columns with commas" if any(mark in got for mark in ";\t|") else ""
    findings.faults.append(f"{label}: got columns {got!r}, allowed is {ALLOWED}{hint}")
    return None


CHOICE = _Csv()
