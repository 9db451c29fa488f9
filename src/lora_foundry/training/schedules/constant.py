"""The peak, to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.training.schedules import ScheduleChoice

if TYPE_CHECKING:
    from lora_foundry.config.schema import SchedulerConfig, TrainerConfig


class _Constant(ScheduleChoice):
    def share(self, config: SchedulerConfig, done: float) -> float:  # noqa: ARG002
        return 1.0

    def problems_with(self, group: SchedulerConfig, trainer: TrainerConfig, /) -> list[str]:  # noqa: ARG002
        return []  # a warm-up as long as the training is a slope, of which people are warned


CHOICE = _Constant()
