"""Jobs that begin where another one is: what is asked of them, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """What a job of the record begins from.

    Attributes:
        of: Number of the job whose weights, optimizer and counters it takes over.
        instead_of: Number of the job whose place it takes; null where that place was free.
    """

    of: int
    instead_of: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Donor:
    """The same as a worker is told: in its pack, or by the newest checkpoint in its folder.

    Attributes:
        job: Its number.
        name: Its adapter's name.
        dir: Its folder.
    """

    job: int
    name: str
    dir: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """Where a job began that took over from another.

    Attributes:
        of: The other's number.
        name: Its name.
        step: Optimizer steps that it had done.
        samples: Samples that it had seen.
    """

    of: int
    name: str
    step: int
    samples: int

    @property
    def words(self) -> str:
        """For people."""
        return f"forked from {self.name} at {self.samples:,} samples"
