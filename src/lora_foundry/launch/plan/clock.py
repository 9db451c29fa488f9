"""How long packs take, as far as is known before they train.

A step's time is what was measured on this machine for its kind; else what the base's operations should take; else a
shape alone (a step of four rows takes twice as long as one of a single row), which is enough to compare plans with.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from lora_foundry.config.kinds import kind_of
from lora_foundry.config.length import known_steps, rows_of
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.engine import Slot

Basis = Literal["measured", "estimated", "guessed"]
START_S = 9.0  # a worker's start: imports, data, the base, the first scores (bench.one_job)
NEXT_S = 1.0  # the same on a warm slot
END_S = 0.5  # of each job: its scores and its files
_GUESSED_STEP_S = 0.045
_FREE_ROWS = 3.0  # rows that cost as much as a step of no rows: 44, 61, 83 and 129 ms at 1, 2, 4, 8 (bench.step)
_GUESSED_STEPS = 400


class Pace(Protocol):
    """What is known of times. The launcher is given one: measurements and traces are kept by another room."""

    def step_s(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool) -> tuple[float, Basis] | None:
        """Seconds of one micro-step of ``configs`` together on ``slot``; null where nothing is known.

        Args:
            configs: Of the members.
            slot: Where.
            trace: Whether to take the seconds that an unknown kind of step costs.
        """

    def steps(self, config: JobConfig) -> int | None:
        """Optimizer steps of a job; null where they are not known before its data is read."""


class NoPace:
    """Knows nothing."""

    def step_s(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool) -> tuple[float, Basis] | None:  # noqa: ARG002
        """Null."""
        return None

    def steps(self, config: JobConfig) -> int | None:
        """What the configuration says outright."""
        return known_steps(config.trainer)


class Clock:
    """Times of packs on slots like ``slot``.

    Args:
        pace: What is known.
        slot: Where packs train.
        trace: Whether unknown kinds of steps are traced.

    Attributes:
        basis: What the weakest of the answers so far was based on.
    """

    def __init__(self, pace: Pace, slot: Slot, *, trace: bool) -> None:
        self._pace = pace
        self._slot = slot
        self._trace = trace
        self._known: dict[object, float] = {}
        self._steps: dict[JobConfig, int] = {}
        self.basis: Basis = "measured"

    def steps(self, config: JobConfig) -> int:
        """Micro-steps of a job."""
        if config not in self._steps:
            steps = self._pace.steps(config)
            if steps is None:
                self._weaken("guessed")
                steps = _GUESSED_STEPS
            self._steps[config] = steps * config.trainer.accumulate
        return self._steps[config]

    def pack_s(self, configs: Sequence[JobConfig]) -> float:
        """Seconds from a pack's first step to its last file; members leave as they are done."""
        return END_S * len(configs) + self.steps_s(configs, [self.steps(config) for config in configs])

    def steps_s(self, configs: Sequence[JobConfig], steps: Sequence[int]) -> float:
        """Seconds of the next ``steps`` micro-steps of each of ``configs`` together; members leave as they are done."""
        left = sorted(zip(steps, configs, strict=True), key=lambda pair: pair[0])
        total, done = 0.0, 0
        while left:
            ahead = left[0][0] - done
            if ahead > 0:
                total += ahead * self._step_s([config for _, config in left])
                done += ahead
            left = left[1:]
        return total

    def _step_s(self, configs: Sequence[JobConfig]) -> float:
        rows = rows_of(configs)
        key = len(configs), rows, tuple(sorted({kind_of(config) for config in configs}))
        if key not in self._known:
            known = self._pace.step_s(configs, self._slot, trace=self._trace)
            seconds, basis = known or (_GUESSED_STEP_S * shape(rows), "guessed")
            self._weaken(basis)
            self._known[key] = seconds
        return self._known[key]

    def _weaken(self, basis: Basis) -> None:
        order: tuple[Basis, ...] = ("measured", "estimated", "guessed")
        self.basis = max(self.basis, basis, key=order.index)


def shape(rows: float) -> float:
    """Time of a step of so many rows over the time of a step of one, where nothing better is known."""
    return (_FREE_ROWS + rows) / (_FREE_ROWS + 1.0)


def schedule(seconds: Sequence[float], slots: int) -> tuple[float, list[int]]:
    """When all packs are over, and the slot of each, if each slot takes the next as soon as it is free.

    Args:
        seconds: Of the packs, in the order they are taken.
        slots: How many there are.
    """
    free = [(0.0, slot) for slot in range(slots)]
    places = []
    for took in seconds:
        at, slot = heapq.heappop(free)
        places.append(slot)
        heapq.heappush(free, (at + (START_S if at == 0.0 else NEXT_S) + took, slot))
    return max(at for at, _ in free), places


def in_words(seconds: float) -> str:
    """A time for people: ``40 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


BASIS: Mapping[Basis, str] = {
    "measured": "by what steps of this kind took on this machine",
    "estimated": "an estimate; the first sweep of its kind measures",
    "guessed": "a guess: no step of this kind was measured here yet",
}
