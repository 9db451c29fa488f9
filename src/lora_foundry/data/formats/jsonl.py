"""Caption tables as programs write them: ``metadata.jsonl``, an object an image, with the columns of a CSV table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from lora_foundry.data.formats import TableFormat
from lora_foundry.data.formats.csv import ALLOWED, COLUMNS
from lora_foundry.data.records import Cell, Findings
from lora_foundry.data.texts import TextError, read_text


class _Jsonl(TableFormat):
    names = ("metadata.jsonl",)

    def cells(self, table: Path, label: str, findings: Findings) -> Iterator[Cell]:
        return read_jsonl(table, label, findings)


def read_jsonl(path: Path, label: str, findings: Findings) -> Iterator[Cell]:
    """The lines of a JSON-lines file with keys of one pair of ``COLUMNS``; problems go to ``findings``."""
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
        found = [pair for pair in COLUMNS if isinstance(entry, dict) and set(pair) <= set(entry)]
        if len(found) != 1:
            got = ",".join(sorted(entry)) if isinstance(entry, dict) else f"a {type(entry).__name__}"
            findings.bad_rows.append(f"{where}: got {got}, allowed is an object with {ALLOWED}")
            continue
        name, caption = (entry[key] for key in found[0])
        if not isinstance(name, str) or not isinstance(caption, str):
            findings.bad_rows.append(f"{where}: got {name!r} and {caption!r}, allowed is two texts")
            continue
        yield Cell(where, name.strip(), caption.strip())


CHOICE = _Jsonl()
