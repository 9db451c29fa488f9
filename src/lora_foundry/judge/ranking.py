"""Which job of a sweep is best: :mod:`lora_foundry.config.best`'s rule, for whoever looks at a whole sweep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from lora_foundry.config.best import best


class Scored(Protocol):
    """What can be ranked: a job's state, or its outcome."""

    @property
    def score(self) -> float | None:
        """What adapters are compared by; null for a job that did not finish."""


S = TypeVar("S", bound=Scored)


def best_of(jobs: Iterable[S]) -> S | None:
    """The finished job of the lowest loss over the base's; of equals the first, None where none can be compared."""
    every = list(jobs)
    first = best({place: job.score for place, job in enumerate(every)})
    return None if first is None else every[first]
