"""A power of a straight line from the peak to the final ratio: ``low + (1 - low) (1 - t)^power``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from lora_foundry.config.choices import Options
from lora_foundry.config.constraints import MoreThan
from lora_foundry.training.schedules import ScheduleChoice

if TYPE_CHECKING:
    from lora_foundry.config.schema import SchedulerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options(Options):
    """Its own.

    Attributes:
        power: Of the line; 1 is ``linear``.
    """

    power: Annotated[float, MoreThan(0.0)] = 2.0


class _Polynomial(ScheduleChoice):
    options = _Options

    def share(self, config: SchedulerConfig, done: float) -> float:
        low = config.min_lr_ratio
        return low + (1 - low) * (1 - done) ** cast("_Options", config.options).power


CHOICE = _Polynomial()
