"""What a data set consists of as its folders and captions tell, before any image is opened.

Imports neither torch nor PIL, so that it can be asked before anything is made or queued.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.config.paths import locate
from src.config.schema import DataConfig
from src.config.warned import Warned
from src.data.folder import read_folder
from src.data.records import Findings, Row


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
        """Why no job may train on it, a line each; :func:`src.data.checks.check_data` refuses the same and more."""
        bad_rows = self.findings.bad_rows if self.on_bad == "error" else []
        return (*self.findings.faults, *bad_rows)

    @property
    def warnings(self) -> tuple[Warned, ...]:
        """What the user is warned of; whoever checks the images repeats it, so a launcher need not."""
        return tuple(self.findings.notes)


def list_data(data: DataConfig, start: Path | None = None) -> Listed:
    """Read the tables and captions of a data set; 10,000 rows take about a second.

    Equal configurations give equal answers while the folders stay as they are: ask once for each, not once a job.

    Args:
        data: Where it is, and how it is read.
        start: Folder that relative paths start from; None is the working folder.
    """
    findings = Findings()
    train = read_folder(locate(data.path, start), "data.path", findings)
    val = None if data.val_path is None else read_folder(locate(data.val_path, start), "data.val_path", findings)
    return Listed(train=tuple(train), val=None if val is None else tuple(val), findings=findings, on_bad=data.on_bad)
