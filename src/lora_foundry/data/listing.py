"""What a data set consists of as its folders and captions tell, before any image is opened.

Imports neither torch nor PIL, so that it can be asked before anything is made or queued.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.paths import locate
from lora_foundry.config.schema import DataConfig
from lora_foundry.config.unicode import printable
from lora_foundry.config.warned import Warned
from lora_foundry.data.folder import read_folder
from lora_foundry.data.heic import NEEDED, SUFFIXES, can_read
from lora_foundry.data.kohya import repeats_told
from lora_foundry.data.leaving import unknown_patterns
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Findings, Row

_LEAST_TO_SHARE = 2  # one image is both trained on and held out
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """The rows of a data set, none of whose images was opened.

    Attributes:
        train: Rows of ``data.path``; what is held out of them is decided by content, later.
        val: Rows of ``data.val_path``; None where a share of ``train`` is held out instead.
        findings: Everything that listing brought up, of both folders.
        on_bad: The configuration's, which says what bad rows lead to.
    """

    train: tuple[Row, ...]
    val: tuple[Row, ...] | None
    findings: Findings
    on_bad: str

    @property
    def refused(self) -> tuple[str, ...]:
        """Why no job may train on it, a line each; :func:`~lora_foundry.data.checks.check_data` refuses more."""
        faults, bad_rows = self.findings.faults, self.findings.bad_rows
        if self.on_bad == "error":
            return tuple(printable(line) for line in (*faults, *bad_rows))
        empty = [] if faults else [key for key, rows in self._rows().items() if not rows]
        left = [f"{key}: no usable image is left, allowed is at least 1; repair what was skipped" for key in empty]
        return tuple(printable(line) for line in (*faults, *left, *(bad_rows if left else ())))

    def _rows(self) -> dict[str, tuple[Row, ...]]:
        return {"data.path": self.train} | ({} if self.val is None else {"data.val_path": self.val})

    @property
    def warnings(self) -> tuple[Warned, ...]:
        """What the user is warned of; whoever checks the images repeats it, so only plans say it before."""
        return tuple(self.findings.notes)


def list_data(data: DataConfig, start: Path | None = None) -> Listed:
    """Read the tables and captions of a data set; 10,000 rows take about a second.

    Equal configurations give equal answers while the folders stay as they are: ask once for each, not once a job.

    Args:
        data: Where it is, and how it is read.
        start: Folder that relative paths start from; None is the working folder.
    """
    findings, reading = Findings(), Reading.of(data)
    folder = locate(data.path, start)
    train = _readable(read_folder(folder, "data.path", findings, reading), "data.path", findings)
    findings.faults.extend(unknown_patterns(data.without, train) if train else [])
    findings.notes.extend(repeats_told("data.path", folder.absolute().name, train) if reading.repeats else [])
    if data.folds is not None and len(train) < data.folds:
        findings.faults.append(too_many_folds(data.folds, len(train)))
    val = None
    if data.val_path is not None:
        rows = read_folder(locate(data.val_path, start), "data.val_path", findings, reading)
        val = tuple(_readable(rows, "data.val_path", findings))
    return Listed(train=tuple(train), val=val, findings=findings, on_bad=data.on_bad)


def too_many_folds(folds: int, images: int) -> str:
    """Why so many images cannot be divided into so many parts."""
    return f"data.folds: got {folds}, allowed are at most {images} folds of the {images} different images of data.path"


def trained_on(data: DataConfig, start: Path | None = None) -> int:
    """About how many samples an epoch has, as listed; 0 where nothing can be read, which others say."""
    listed = list_data(data, start)
    count = len(listed.train)
    if count < _LEAST_TO_SHARE or listed.val is not None or data.fold == "all" or _all_trained(data):
        return sum(row.repeats for row in listed.train)
    share = data.val_fraction if data.folds is None else 1 / data.folds
    held_out = min(max(1, round(count * share)), count - 1)
    return round(sum(row.repeats for row in listed.train) * (count - held_out) / count)


def _all_trained(data: DataConfig) -> bool:
    return data.folds is None and data.val_fraction == 0


def _readable(rows: list[Row], key: str, findings: Findings) -> list[Row]:
    """The rows less those whose image needs a package that is not there, which are one bad row together."""
    missing = {row.name: row for row in rows if Path(row.name).suffix.lower() in SUFFIXES}
    if not missing or can_read():
        return rows
    names = ", ".join(list(missing)[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    findings.bad_rows.append(f"{key}: {len(missing)} of {len(rows)} images are HEIC ({names}). {NEEDED}")
    return [row for row in rows if row.name not in missing]
