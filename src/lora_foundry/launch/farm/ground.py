"""What a sweep stands on: its engine, built once, the slots that were there when it began, and what they allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lora_foundry.config.launcher import Settings
from lora_foundry.config.precision import of_all
from lora_foundry.config.schema import JobConfig, Precision
from lora_foundry.launch.machines.engine import Engine, Slot
from lora_foundry.launch.machines.engines import engine_of
from lora_foundry.launch.machines.workers import with_slots
from lora_foundry.launch.plan.budget import Budget, Forecast, budget_for
from lora_foundry.launch.plan.clock import Basis
from lora_foundry.launch.plan.packing import Plan, make_plan
from lora_foundry.launch.plan.refusing import refuse_hopeless


@dataclass(kw_only=True, slots=True)
class Ground:
    """Where packs train.

    Attributes:
        engine: Starts workers.
        settings: The launcher's, with the number of workers a device.
        accelerator: What was asked for.
        budget: What the slots allow. They are those of the beginning: later a sweep's own workers have their memory.
        left_out: A line for each device that is there and has no slot.
    """

    engine: Engine
    settings: Settings
    accelerator: str
    budget: Budget
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, settings: Settings, configs: Sequence[JobConfig], forecast: Forecast, jobs: int | None = None
    ) -> Ground:
        """What there is now.

        Args:
            settings: The launcher's.
            configs: Of the jobs that are known.
            forecast: Says what packs will take.
            jobs: How many the sweep has in all; null where these are all.

        Raises:
            SweepError: When the devices that were asked for are not there.
        """
        engine = engine_of(settings)
        settings = with_slots(settings, engine, configs, jobs)
        accelerator = configs[0].trainer.accelerator
        slots = engine.slots(accelerator, settings.slots)
        budget = budget_for(forecast, slots, configs, shown=settings.plan_only)
        return cls(
            engine=engine,
            settings=settings,
            accelerator=accelerator,
            budget=budget,
            left_out=tuple(f"left out: {line}" for line in engine.left_out),
        )

    @property
    def precision(self) -> Precision:
        """What ``trainer.precision=auto`` is here: packs go to any slot."""
        return of_all(slot.precision for slot in self.budget.slots)

    def slots_now(self) -> list[Slot]:
        """The slots with the memory that is free now."""
        return self.engine.slots(self.accelerator, self.settings.slots)

    def plan(self, configs: Mapping[int, JobConfig]) -> tuple[Plan, Basis]:
        """The packs of jobs that are to begin, and what their times are based on.

        Args:
            configs: By the jobs' numbers.

        Raises:
            SweepError: When no slot has the memory for a job.
        """
        listed = list(configs.values())
        now = budget_for(self.budget.forecast, self.budget.slots, listed, shown=self.settings.plan_only)
        self.budget = replace(now, trace=now.trace or self.budget.trace)
        refuse_hopeless(configs, self.budget, self.settings)
        clock, slots = self.budget.clock(), len(self.budget.slots)
        size, fits = self.settings.pack_size, self.budget.fits
        plan = make_plan(configs, size, slots=slots, fits=fits, clock=clock)
        return plan, clock.basis
