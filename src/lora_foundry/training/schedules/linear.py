"""A straight line from the peak to the final ratio: ``low + (1 - low) (1 - t)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.training.schedules import ScheduleChoice

if TYPE_CHECKING:
    from lora_foundry.config.schema import SchedulerConfig


class _Linear(ScheduleChoice):
    def share(self, config: SchedulerConfig, done: float) -> float:
        low = config.min_lr_ratio
        return low + (1 - low) * (1 - done)


CHOICE = _Linear()
