"""Memory as the plan sees it: what packs need, against what slots have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lora_foundry.config.doing import Doing
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.clock import Clock, NoPace, Pace

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory that a pack takes at a time.

    Attributes:
        step: Bytes of a step with all rows in one forward, context included.
        other: Those of the largest of what else the pack does, each at its least.
        beside: What that is.
    """

    step: int
    other: int = 0
    beside: Doing = "drawing"

    @property
    def size(self) -> int:
        """Bytes at the height of all that the pack does."""
        return max(self.step, self.other)

    @property
    def doing(self) -> Doing:
        """What is done then."""
        return "step" if self.step >= self.other else self.beside


class Forecast(Pace, Protocol):
    """What packs will take, in memory and in time. The launcher is given one: predictions are made in another room."""

    def peak_of(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool, corrected: bool = True) -> Peak | None:
        """The largest of what a pack does; null where nothing is known.

        Args:
            configs: Of its members.
            slot: Where they train.
            trace: Whether to take the seconds that an unknown kind of step costs.
            corrected: Whether what earlier steps took beyond what was predicted for them is expected again.
        """


class NoForecast(NoPace):
    """Knows nothing."""

    def peak_of(
        self,
        configs: Sequence[JobConfig],  # noqa: ARG002
        slot: Slot,  # noqa: ARG002
        *,
        trace: bool,  # noqa: ARG002
        corrected: bool = True,  # noqa: ARG002
    ) -> Peak | None:
        """Null."""
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What the smallest slot allows.

    Attributes:
        forecast: Tells what packs need.
        slots: Where they may train.
        trace: Whether unknown kinds are traced: on a GPU, under a limit and for a plan that is to be shown. On a CPU
            with room enough nobody waits for it.
    """

    forecast: Forecast
    slots: tuple[Slot, ...]
    trace: bool

    def on(self, slots: Sequence[Slot]) -> Budget:
        """The same with what slots are known to have since."""
        return replace(self, slots=tuple(slots))

    def of(self, config: JobConfig) -> int | None:
        """Bytes that a pack of jobs like ``config`` may take; null for no bound."""
        limits = [slot.memory for slot in self.slots if slot.memory is not None]
        limits += [int(config.memory.limit_gib * GIB)] if config.memory.limit_gib is not None else []
        return min(limits, default=None)

    def peak(self, configs: Sequence[JobConfig]) -> Peak | None:
        """The most that they take together on any kind of slot; null where it is not known."""
        kinds = {(slot.model, slot.capability): slot for slot in self.slots}
        peaks = [self.forecast.peak_of(configs, slot, trace=self.trace) for slot in kinds.values()]
        return max((one for one in peaks if one is not None), key=lambda one: one.size, default=None)

    def clock(self) -> Clock:
        """Times of packs here."""
        return Clock(self.forecast, self.slots[0], trace=self.trace)

    def quick_clock(self) -> Clock:
        """The same times while a sweep runs, when nobody waits for a trace."""
        return Clock(self.forecast, self.slots[0], trace=False)

    def fits(self, configs: Sequence[JobConfig]) -> bool:
        """Whether they stay within the budget, as far as is known.

        What is too much for one of them alone, and no step, is no reason to train them apart.
        """
        budget = self.of(configs[0])
        peak = None if budget is None else self.peak(configs)
        if budget is None or peak is None or peak.size <= budget:
            return True
        apart = [self.peak([config]) for config in configs] if len(configs) > 1 else []
        return peak.step <= budget and any(one is not None and one.other > budget for one in apart)


def budget_for(forecast: Forecast, slots: Sequence[Slot], configs: Sequence[JobConfig], *, shown: bool) -> Budget:
    """The budget of a sweep.

    Args:
        forecast: Tells what packs need.
        slots: Where they may train.
        configs: Of all jobs.
        shown: Whether the plan is shown instead of trained.
    """
    limited = any(config.memory.limit_gib is not None for config in configs)
    trace = shown or limited or any(slot.device != "cpu" for slot in slots)
    return Budget(forecast=forecast, slots=tuple(slots), trace=trace)
