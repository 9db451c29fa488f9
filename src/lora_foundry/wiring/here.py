"""What this machine would do with jobs, told without a sweep of them."""

from __future__ import annotations

from collections.abc import Sequence

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.precision import of_all
from lora_foundry.config.schema import JobConfig, Precision
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.engines import engine_of
from lora_foundry.launch.plan.beside import cost_of
from lora_foundry.launch.plan.clock import Clock
from lora_foundry.wiring.forecast import TracedForecast


def precision_here() -> Precision:
    """What ``trainer.precision=auto`` is here."""
    slots = _slots()
    return of_all(slot.precision for slot in slots) if slots else "bf16-mixed"


def besides_here(configs: Sequence[JobConfig]) -> list[str]:
    """What each of ``configs``, alone, is scored and drawn beside its steps; once where all are told the same."""
    forecast, slots = TracedForecast(), _slots()
    clock = Clock(forecast, slots[0], trace=True) if slots else None
    told = []
    for config in configs:
        seconds = None if clock is None else clock.steps_s([config], [clock.steps(config)])
        if cost := cost_of([config], forecast.steps, seconds):
            told.append(str(cost))
    return list(dict.fromkeys(told))


def _slots() -> list[Slot]:
    """Where jobs would train; none with a GPU that cannot be used yet, of which a training tells."""
    try:
        return engine_of(Settings()).slots("auto")
    except SweepError:
        return []
