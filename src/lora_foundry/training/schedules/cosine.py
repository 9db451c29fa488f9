"""Half a cosine from the peak to the final ratio: ``low + (1 - low) (1 + cos(pi t)) / 2``.

Loshchilov & Hutter 2017, eq. 5, without restarts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_foundry.training.schedules import ScheduleChoice

if TYPE_CHECKING:
    from lora_foundry.config.schema import SchedulerConfig


class _Cosine(ScheduleChoice):
    def share(self, config: SchedulerConfig, done: float) -> float:
        low = config.min_lr_ratio
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done))


CHOICE = _Cosine()
