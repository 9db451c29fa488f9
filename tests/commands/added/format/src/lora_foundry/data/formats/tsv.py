"""``metadata.tsv``: a file's name, a tab and its caption, an image a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_foundry.data.formats import TableFormat
from lora_foundry.data.records import Cell, Findings
from lora_foundry.data.texts import read_text


class _Tsv(TableFormat):
    names = ("metadata.tsv",)

    def cells(self, table: Path, label: str, findings: Findings) -> Iterator[Cell]:
        for number, line in enumerate(read_text(table, label, findings).splitlines(), start=1):
            name, tab, caption = line.partition("\t")
            if tab:
                yield Cell(f"{label} line {number}", name, caption)
            else:
                findings.bad_rows.append(f"{label} line {number}: got {line!r}, allowed is a name, a tab and a caption")


CHOICE = _Tsv()
