"""What is known of each job while its sweep runs, folded from the worker's events."""

from __future__ import annotations

from dataclasses import dataclass, field

from lora_foundry.tracking.records import JobRecord
from lora_foundry.wire.events import ProgressEvent
from lora_foundry.wire.states import ENDED, State
from lora_foundry.wire.summary import Summary


@dataclass(slots=True, kw_only=True)
class LiveJob:
    """A job and how far it is.

    Attributes:
        record: The job.
        resume: Whether it continues from its checkpoints.
        state: ``PENDING``, ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED`` or ``PRUNED``.
        step: Optimizer steps done.
        total: Optimizer steps in all; 0 while unknown.
        told_at: When the last step was told (Unix seconds); null before the first.
        loss: Last training loss.
        samples_per_s: Last throughput.
        memory_gib: Most that its process took so far; null while unknown.
        summary: Results of a finished job.
        error: Why it failed.
        restarts: How often it was started again after its worker died.
        stopping: Whether it was asked to stop; a worker that dies then takes the request along.
        pruning: The same of a job that is to be PRUNED.
    """

    record: JobRecord
    resume: bool = False
    state: State = "PENDING"
    step: int = 0
    total: int = 0
    told_at: float | None = None
    loss: float | None = None
    samples_per_s: float | None = None
    memory_gib: float | None = None
    summary: Summary | None = None
    error: str | None = None
    restarts: int = 0
    stopping: bool = False
    pruning: bool = False
    _seen: list[tuple[float, int]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the job has its last state."""
        return self.state in ENDED

    def progress(self, event: ProgressEvent) -> None:
        """Take in how far it is."""
        self.step, self.total, self.told_at = event.step, event.total, event.t
        self.loss, self.samples_per_s, self.memory_gib = event.loss, event.samples_per_s, event.memory_gib
        self._seen = [*self._seen[-40:], (self.told_at, self.step)]

    def remaining_s(self) -> float | None:
        """Seconds to the last step at the pace of the last events; null while unknown."""
        if len(self._seen) < 2 or not self.total:
            return None
        (start, first), (now, last) = self._seen[0], self._seen[-1]
        return (self.total - last) * (now - start) / (last - first) if last > first and now > start else None

    def settle(self, state: State, *, error: str | None = None, summary: Summary | None = None) -> None:
        """Take in a new state."""
        self.state, self.error, self.summary = state, error, summary
