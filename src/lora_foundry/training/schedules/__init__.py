"""The learning rate of a member's optimizer step: a warm-up, then one of the schedules, a file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from lora_foundry.config.choices import SCHEDULES, Choice
from lora_foundry.config.length import known_steps, warmup_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_foundry.config.schema import OptimizerConfig, SchedulerConfig


class ScheduleChoice(Choice, ABC):
    """What the rate does after the warm-up."""

    @abstractmethod
    def share(self, config: SchedulerConfig, done: float) -> float:
        """The rate as a share of its peak.

        Args:
            config: Has the final ratio.
            done: How much of the steps after the warm-up was taken, from 0 to 1; beyond the end it stays 1.
        """

    def misfits(self, groups: Mapping[str, Any], /) -> list[str]:
        """A warm-up that leaves it no step."""
        if "trainer" not in groups:
            return []
        steps, warmup = known_steps(groups["trainer"]), groups["scheduler"].warmup_steps
        if steps is None or warmup is None or warmup < steps:
            return []
        return [f"scheduler.warmup_steps: got {warmup}, allowed is less than trainer.max_steps={steps}"]


def learning_rate(optimizer: OptimizerConfig, scheduler: SchedulerConfig, *, step: int, total: int) -> float:
    """Linear warm-up to the peak, then the schedule.

    An optimizer may multiply it by a scale of its own (:meth:`lora_foundry.training.optimizers.OptimizerChoice.scale`).

    Args:
        optimizer: Has the peak.
        scheduler: Has the schedule, its warm-up and its final ratio.
        step: Optimizer steps taken before this one.
        total: The member's optimizer steps in all.
    """
    warmup = warmup_of(scheduler, total)
    if step < warmup:
        return optimizer.lr * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return optimizer.lr * SCHEDULES.load(scheduler.name, ScheduleChoice).share(scheduler, done)
