"""What people are told of jobs as they come: before the sweep begins all together, later as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lora_foundry.launch.points.point import Point
from lora_foundry.launch.screen.live import Screen
from lora_foundry.launch.screen.table import near


@dataclass(kw_only=True, slots=True)
class Said:
    """What is to be told of jobs that came.

    Attributes:
        notes: First.
        warnings: Then.
    """

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Telling:
    """Each line is told once, however many jobs come one after the other that it is true of.

    Args:
        screen: Where.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._first: Said | None = Said()
        self._told: set[str] = set()

    def add(self, said: Said, came: int = 0) -> None:
        """Tell it, with the others where the sweep has not begun.

        Args:
            said: What.
            came: How many jobs it is of that came later.
        """
        if self._first is not None:
            self._first.notes += said.notes
            self._first.warnings += said.warnings
            return
        if came:
            self._screen.line(f"{came} more {'jobs' if came > 1 else 'job'}", "bold")
        self._tell(said)

    def greet(self, jobs: int, folder: Path) -> None:
        """The sweep begins; later calls tell nothing more."""
        said, self._first = self._first, None
        if said is not None:
            self._screen.line(f"Sweep of {jobs} {'jobs' if jobs > 1 else 'job'} in {near(folder)}", "bold")
            self._tell(said)

    def _tell(self, said: Said) -> None:
        for lines, style in ((said.notes, "dim"), (said.warnings, "yellow")):
            for line in lines:
                if line not in self._told:
                    self._screen.line(f"  {line}", style)
            self._told.update(lines)


def noted(points: Sequence[Point]) -> list[str]:
    """What the user is told of points first, each once."""
    return list(dict.fromkeys(note for point in points for note in point.notes))
