"""Steps of a job, those that warm it up, and rows of a step: the same for worker, plan and rules."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_foundry.config.schema import JobConfig, SchedulerConfig, TrainerConfig

_MOST_BY_ITSELF = 10  # steps of a warm-up that nobody asked for
_SHARE_BY_ITSELF = 10  # one of so many steps


def total_steps(config: JobConfig, n_images: int) -> int:
    """Optimizer steps of a training on ``n_images`` images, each counted as often as it repeats.

    Batches run on over the end of an epoch, so each has the same number of samples; the last one is filled
    up from the next epoch. Epochs are taken as the number that was written: 2.2 of 25 images are 55 samples, though
    2.2 * 25 is more than 55 in floating point.

    Raises:
        ValueError: When neither steps nor epochs are given.
    """
    epochs = config.trainer.epochs
    if epochs is None:
        if config.trainer.max_steps is None:
            msg = "trainer.max_steps and trainer.epochs are both null"
            raise ValueError(msg)
        return config.trainer.max_steps
    effective = config.data.batch_size * config.trainer.accumulate
    return max(1, math.ceil(Fraction(repr(epochs)) * n_images / effective))


def rows_of(configs: Iterable[JobConfig]) -> int:
    """Rows of one forward pass of jobs that train together: a sample each."""
    return sum(config.data.batch_size for config in configs)


def known_steps(trainer: TrainerConfig) -> int | None:
    """Optimizer steps as far as they are known without the data; None where epochs decide."""
    return trainer.max_steps if trainer.epochs is None else None


def warmup_of(scheduler: SchedulerConfig, total: int) -> int:
    """Optimizer steps of the warm-up of a training of ``total``: what was asked for, or a tenth of it, at most ten."""
    if scheduler.warmup_steps is not None:
        return scheduler.warmup_steps
    return min(_MOST_BY_ITSELF, total // _SHARE_BY_ITSELF)


def too_long_a_warmup(config: JobConfig, total: int) -> str | None:
    """A line that says that the warm-up outlasts a training of ``total`` steps; None where it does not."""
    warmup, peak = warmup_of(config.scheduler, total), config.optimizer.lr
    if warmup < max(total, 2):
        return None
    return (
        f"scheduler.warmup_steps={warmup} with {total} optimizer steps in all: the rate climbs to the last step and "
        f"ends at {peak * total / warmup:g}, below optimizer.lr={peak:g}; lower it, or null takes a tenth of the steps"
    )
