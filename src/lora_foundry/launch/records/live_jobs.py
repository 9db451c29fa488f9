"""A job of a sweep that runs: its state, and what only its launcher knows of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from lora_foundry.launch.records.state import JobState
from lora_foundry.tracking.records import JobRecord
from lora_foundry.wire.states import State

_SEEN = 40  # of the last steps that were told, which the pace is reckoned from


@dataclass(slots=True, kw_only=True)
class LiveJob:
    """A job that the farm has.

    Attributes:
        record: The job.
        now: Its state, which what is journalled and heard changes.
        resume: Whether it continues from its checkpoints.
        restarts: How often this launcher started it again after its worker died.
        stopping: Whether it was asked to stop; a worker that dies then takes the request along.
        pruning: The same of a job that is to be PRUNED.
    """

    record: JobRecord
    now: JobState
    resume: bool = False
    restarts: int = 0
    stopping: bool = False
    pruning: bool = False
    _seen: list[tuple[float, int]] = field(default_factory=list)

    @property
    def state(self) -> State:
        """``PENDING``, ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED`` or ``PRUNED``."""
        return self.now.state

    @property
    def ended(self) -> bool:
        """Whether it has its end."""
        return self.now.ended

    @property
    def step(self) -> int:
        """Optimizer steps done, as far as was told."""
        return self.now.step or 0

    @property
    def total(self) -> int:
        """Of how many; 0 while unknown."""
        return self.now.total or 0

    def stepped(self) -> None:
        """Note when it took its last step."""
        if self.now.told_at is not None:
            self._seen = [*self._seen[-_SEEN:], (self.now.told_at, self.step)]

    def remaining_s(self) -> float | None:
        """Seconds to the last step at the pace of the last that were told; null while unknown."""
        if len(self._seen) < 2 or not self.total:
            return None
        (start, first), (now, last) = self._seen[0], self._seen[-1]
        return (self.total - last) * (now - start) / (last - first) if last > first and now > start else None
