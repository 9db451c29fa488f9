"""What happens while jobs train, for whoever offered them: a search decides by it which to prune and what to offer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lora_foundry.launch.points.names import Names
from lora_foundry.wire.events import MetricsEvent
from lora_foundry.wire.outcomes import JobOutcome


class Listener(Protocol):
    """Is told in the order in which things happened, by the thread that trains, which holds nothing meanwhile.

    It may offer, prune and close. It should be quick: nothing is looked at before it returns.
    """

    def tell(self, job: int, samples: int, values: Mapping[str, object]) -> None:
        """Something was measured.

        Args:
            job: The number that the offer gave.
            samples: Samples that the job has seen.
            values: Metric to value: losses of steps, validations.
        """

    def ended(self, outcome: JobOutcome) -> None:
        """A job has its end."""

    def look(self) -> None:
        """Is called again and again while the farm works, whatever happens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reopened:
    """Who goes on offering jobs to a sweep that was left.

    Attributes:
        listener: Is told what happens.
        naming: Names what is offered.
    """

    listener: Listener
    naming: Names


class News:
    """Keeps what happened until it is delivered; nothing is kept where nobody listens.

    Args:
        listener: Who is told.
        outcome: How a job ended.
    """

    def __init__(self, listener: Listener | None = None, outcome: Callable[[int], JobOutcome] | None = None) -> None:
        self._listener = listener
        self._outcome = outcome
        self._kept: deque[MetricsEvent | JobOutcome] = deque()

    @property
    def heard(self) -> bool:
        """Whether somebody listens."""
        return self._listener is not None

    def measured(self, event: MetricsEvent) -> None:
        """A worker told what it measured."""
        if self._listener is not None:
            self._kept.append(event)

    def ended(self, job: int) -> None:
        """A job has its end."""
        if self._listener is not None and self._outcome is not None:
            self._kept.append(self._outcome(job))

    def deliver(self) -> None:
        """Tell what was kept, and let the listener look."""
        while self._kept and self._listener is not None:
            one = self._kept.popleft()
            if isinstance(one, JobOutcome):
                self._listener.ended(one)
            else:
                self._listener.tell(one.job, one.samples, one.values)
        if self._listener is not None:
            self._listener.look()
