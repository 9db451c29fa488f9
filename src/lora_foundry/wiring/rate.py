"""What a job's learning rate is at a step, as the training room computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_foundry.config.schema import JobConfig


def rate(config: JobConfig, step: int, total: int) -> float:
    """After ``step`` of ``total`` optimizer steps."""
    from lora_foundry.training.schedules import learning_rate

    return learning_rate(config.optimizer, config.scheduler, step=step, total=total)
