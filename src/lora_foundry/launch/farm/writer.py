"""Tracking as the launcher sees it: it may be off or broken, and training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.tracking.errors import TrackingError
from lora_foundry.tracking.records import JobRecord

if TYPE_CHECKING:
    from lora_foundry.tracking import SweepWriter


class SafeWriter:
    """The sweep's one writer to MLflow; nothing when tracking is off, or what there is of it cannot go on."""

    def __init__(self, sweep_dir: Path, jobs: Sequence[JobRecord], sweep_id: str, command: str) -> None:
        tracking = jobs[0].config.tracking
        self._writer: SweepWriter | None = None
        self._refused: str | None = None
        if tracking.enabled:
            from lora_foundry.tracking import SweepWriter

            try:
                self._writer = SweepWriter(sweep_dir, list(jobs), tracking, sweep_id, command)
            except (TrackingError, OSError) as error:
                self._refused = f"nothing is recorded: {error}"

    @property
    def active(self) -> bool:
        """Whether runs are recorded."""
        return self._writer is not None

    @property
    def problem(self) -> str | None:
        """Why runs are not recorded as they should be, or null."""
        return self._writer.problem if self._writer is not None else self._refused

    @property
    def view(self) -> str | None:
        """Where the page that compares the runs is, behind the address of MLflow's server; null where there is none."""
        return self._writer.view if self._writer is not None else None

    def add(self, jobs: Sequence[JobRecord]) -> None:
        """More jobs came."""
        if self._writer is not None:
            self._writer.add(jobs)

    def start(self) -> None:
        """Begin to read the spools, in a thread of its own."""
        if self._writer is not None:
            self._writer.start()

    def close(self, states: dict[int, str]) -> None:
        """Write what is left and set the runs' last states."""
        if self._writer is not None:
            self._writer.close(states)
