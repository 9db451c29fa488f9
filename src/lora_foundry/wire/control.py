"""What a person asks of a running sweep: lines of ``control.jsonl`` in its folder, which the launcher follows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lora_foundry.wire.lines import Kinds, Loose, TimedLine, read_new

FILE = "control.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopAsked(TimedLine):
    """A clean stop.

    Attributes:
        job: Of one job; null for the whole sweep.
    """

    tag: ClassVar[str] = "stop"
    job: Loose[int]


CONTROL: Kinds[StopAsked] = Kinds("cmd", (StopAsked,))


def ask_to_stop(sweep_dir: Path, job: int | None = None) -> None:
    """Ask for a clean stop of one job, or of the whole sweep.

    Raises:
        OSError: When the folder cannot be written.
    """
    with (sweep_dir / FILE).open("ab") as file:
        file.write(CONTROL.written(StopAsked(job=job)))
        file.flush()
        os.fsync(file.fileno())


class Control:
    """Reads what is asked from now on; what was asked of an earlier launcher is done with.

    Args:
        sweep_dir: The sweep's folder.
    """

    def __init__(self, sweep_dir: Path) -> None:
        self._path = sweep_dir / FILE
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def stops(self) -> list[int | None]:
        """Jobs to stop since the last call; None stands for the whole sweep."""
        try:
            lines, self._offset = read_new(self._path, self._offset)
        except OSError:  # nobody asked yet, or something that cannot be read lies in its place
            return []
        return [asked.job for asked in CONTROL.read_all(lines)]
