"""From what formats name to rows: an existing image inside the folder, once, with a caption."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePath

from lora_foundry.config.unicode import is_unicode
from lora_foundry.data.kohya import folder_of
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Cell, Findings, Row
from lora_foundry.data.scan import Scan, real


class Rows:
    """Collects the rows of one folder; what is wrong with one goes to ``findings``.

    Args:
        scan: The folder.
        reading: How it is read.
        findings: Takes bad rows.
        wordless: Whether a caption may be empty.
    """

    def __init__(self, scan: Scan, reading: Reading, findings: Findings, *, wordless: bool) -> None:
        self.rows: list[Row] = []
        self._scan = scan
        self._reading = reading
        self._findings = findings
        self._wordless = wordless
        self._first: dict[Path, str] = {}

    def add(self, cells: Iterable[Cell], base: Path) -> list[tuple[Path, Row]]:
        """Rows of ``cells``, whose names start from ``base``, each with its image as the cell names it."""
        added = []
        for cell in cells:
            image = self._inside(cell, base)
            if image is None:
                continue
            if image in self._first:
                first = self._first[image]
                self._bad(cell, f"names {cell.name} a second time (first in {first}), allowed is once; remove one")
                continue
            self._first[image] = cell.where
            if row := self._row(cell, image):
                self.rows.append(row)
                added.append((Path(os.path.normpath(base / cell.name)), row))
        return added

    def named(self, image: Path) -> bool:
        """Whether some cell named the image, be its row sound or not."""
        return self._identity(image) in self._first

    def _row(self, cell: Cell, image: Path) -> Row | None:
        if not cell.caption and not self._wordless:
            self._bad(cell, f"{cell.name} has no caption; write one, or remove the row")
            return None
        if not is_unicode(cell.caption):
            self._bad(
                cell,
                f"the caption of {cell.name} is no valid Unicode: got {cell.caption[-40:]!r}, which holds half of a "
                "surrogate pair (an emoji that was cut) or a byte that is not UTF-8; write it anew",
            )
            return None
        name = image.relative_to(self._scan.root)
        folder = folder_of(self._scan.name, PurePath(name)) if self._reading.repeats else None
        return Row(
            where=cell.where,
            image=real(image),
            name=name.as_posix(),
            caption=cell.caption,
            repeats=1 if folder is None else folder.repeats,
        )

    def _identity(self, path: Path) -> Path:
        """What makes two names one image: the file, or the name where a store of links has one file for many."""
        return Path(os.path.normpath(path)) if self._reading.follow_links else real(path)

    def _inside(self, cell: Cell, base: Path) -> Path | None:
        """The path of an existing file below the root, or None when a problem was noted."""
        if not cell.name:
            self._bad(cell, "names no image; write a file name, or remove the row")
            return None
        try:
            image = self._identity(base / cell.name)
            found = image.is_file()
        except (OSError, ValueError) as error:  # a name too long, a zero byte
            self._bad(cell, f"{cell.name[:80]!r} is no usable path ({error})")
            return None
        if not image.is_relative_to(self._scan.root):
            linked = Path(os.path.normpath(base / cell.name)).is_relative_to(self._scan.root)
            ways = "files inside it, or links with data.follow_links=true" if linked else "files inside it"
            self._bad(cell, f"{cell.name} leads to {image}, outside the data folder; allowed are {ways}")
            return None
        if not found:
            hint = "; write / between folders" if "\\" in cell.name else ""
            kind = "is not a regular file" if image.exists() else "is missing"
            self._bad(cell, f"{cell.name} {kind}; add it, or remove the row{hint}")
            return None
        return image

    def _bad(self, cell: Cell, what: str) -> None:
        self._findings.bad_rows.append(f"{cell.where}: {what}")
