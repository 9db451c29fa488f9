"""The learning rate of a member's optimizer step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_foundry.config.length import warmup_of

if TYPE_CHECKING:
    from lora_foundry.config.schema import OptimizerConfig, SchedulerConfig


def learning_rate(optimizer: OptimizerConfig, scheduler: SchedulerConfig, *, step: int, total: int) -> float:
    """Linear warm-up to the peak, then constant, linear or cosine decay (Loshchilov & Hutter 2017, eq. 5).

    Args:
        optimizer: Has the peak.
        scheduler: Has shape, warm-up and final ratio.
        step: Optimizer steps taken before this one.
        total: The member's optimizer steps in all.
    """
    warmup = warmup_of(scheduler, total)
    if step < warmup:
        return optimizer.lr * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    low = scheduler.min_lr_ratio
    shapes = {
        "constant": 1.0,
        "linear": low + (1 - low) * (1 - done),
        "cosine": low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)),
    }
    return optimizer.lr * shapes[scheduler.name]
