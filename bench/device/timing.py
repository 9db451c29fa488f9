"""Steps timed on the device that takes them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_foundry.training.pack_step import run_step
from lora_foundry.training.shortage import is_out_of_memory

if TYPE_CHECKING:
    from lora_foundry.training.pack import Pack

STEPS_AN_ADAPTER = 1000
_WARM_UP, _LEAST = 3, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """How a case went.

    Attributes:
        step_s: Seconds of a step: of the pack, or of a process beside the others.
        images_per_s: Of all jobs together.
        tensors: Bytes of tensors at the peak, all processes together; null where nobody counts them.
        held: Bytes that the allocators kept from others then.
    """

    step_s: float
    images_per_s: float
    tensors: int | None
    held: int | None

    def adapters_an_hour(self, batch: int) -> float:
        """Adapters of :data:`STEPS_AN_ADAPTER` steps that all jobs together finish in an hour."""
        return self.images_per_s * 3600 / (STEPS_AN_ADAPTER * batch)


class FullError(RuntimeError):
    """The device has too little memory for a step as it was asked for."""


class NoWay:
    """Implements :class:`lora_foundry.training.shortage.Relief`: the step is timed as it was asked for."""

    def check(self) -> None:
        """Nothing is short before it is."""

    def give_way(self, pack: Pack, reason: str) -> None:  # noqa: ARG002  # of the protocol
        """End the measurement.

        Raises:
            FullError: Always.
        """
        raise FullError(reason)


def is_full(error: Exception) -> bool:
    """Whether a case does not fit on the device; anything else is a fault."""
    return isinstance(error, FullError) or is_out_of_memory(error)


def step(pack: Pack) -> None:
    """One step.

    Raises:
        FullError: When there is too little memory for it.
        RuntimeError: When a member failed.
    """
    failed = run_step(pack).failed
    if failed:
        raise RuntimeError(failed[0].error)


def timed(call: Callable[[], None], sync: Callable[[], None], seconds: float) -> list[float]:
    """Seconds of each call in a row of about ``seconds``, after a few that are not counted; for 0, of one after one."""
    warm_up, least = (_WARM_UP, _LEAST) if seconds else (1, 1)
    for _ in range(warm_up):
        call()
    sync()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < least or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        sync()
        taken.append(time.perf_counter() - start)
    return taken


def median(taken: list[float]) -> float:
    """The median."""
    return statistics.median(taken)
