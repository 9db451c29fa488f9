"""The peak, to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_foundry.training.schedules import ScheduleChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_foundry.config.schema import SchedulerConfig


class _Constant(ScheduleChoice):
    def share(self, config: SchedulerConfig, done: float) -> float:  # noqa: ARG002
        return 1.0

    def misfits(self, groups: Mapping[str, Any], /) -> list[str]:  # noqa: ARG002
        return []  # a warm-up as long as the training is a slope, of which people are warned


CHOICE = _Constant()
