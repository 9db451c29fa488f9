"""Where sections put what they find: printed at once, kept in one file, and judged at the end."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.measure import Claim, Result, Table

GIB, MIB = 2**30, 2**20


@dataclass(kw_only=True)
class Stage:
    """A card, or the CPU in its place, and the time that is left.

    Attributes:
        device: What is measured.
        folder: For caches and runs; goes with the measurement.
        minutes: Of the whole.
        kohya: A copy of kohya-ss/sd-scripts to measure beside, or None.
        started: Reading of the monotonic clock at the beginning, seconds.
        result: What was found so far.
        failed: Sections that fell over.
    """

    device: torch.device
    folder: Path
    minutes: float
    kohya: Path | None = None
    started: float = field(default_factory=time.monotonic)
    result: Result
    failed: list[str] = field(default_factory=list)

    @property
    def small(self) -> bool:
        """Whether there is no card, and everything is small."""
        return self.device.type == "cpu"

    def seconds_left(self) -> float:
        """Of the whole measurement."""
        return self.minutes * 60 - (time.monotonic() - self.started)

    def run(self, name: str, section: Callable[[Stage], None], least_s: float) -> None:
        """Run a section; one that falls over is told, and the next ones run all the same.

        Args:
            name: Of the section.
            section: Adds tables and claims.
            least_s: Seconds without which it is not begun.
        """
        if self.seconds_left() < least_s:
            self.note(name, f"not begun: {self.seconds_left():.0f} s are left, it takes {least_s:.0f}")
            return
        try:
            section(self)
        except Exception:  # noqa: BLE001  # the sections behind it are worth measuring whatever happened here
            self.failed.append(name)
            self.note(name, "fell over: " + traceback.format_exc().strip().splitlines()[-1])
            print(traceback.format_exc(), flush=True)
        self.free()
        self.result.keep()

    def table(self, title: str, *columns: str) -> Table:
        """A new table, whose rows are added with :meth:`row`."""
        made = Table(title=title, columns=list(columns))
        self.result.tables.append(made)
        return made

    def row(self, table: Table, *cells: str) -> None:
        """Add a row, and say it."""
        table.rows.append(list(cells))
        self._say(f"{table.title}: " + " | ".join(cells))

    def note(self, name: str, text: str) -> None:
        """Something that is no figure."""
        found = next((one for one in self.result.tables if one.title == "Left out"), None)
        table = found or self.table("Left out", "section", "why")
        self.row(table, name, text)

    def claim(self, what: str, measured: str, limit: str, *, holds: bool) -> None:
        """A figure with a limit; of a small run it is said and not kept."""
        self._say(f"{'holds ' if holds else 'MISSES'} {what}: {measured} (limit {limit})")
        self.result.claims.append(Claim(what=what, measured=measured, limit=limit, holds=holds))

    def sync(self) -> None:
        """Wait until the card has done what it was given."""
        if not self.small:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Give back what nobody holds any more."""
        gc.collect()
        if not self.small:
            torch.cuda.empty_cache()

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)
