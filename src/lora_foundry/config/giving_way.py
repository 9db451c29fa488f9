"""What of a job may change when memory runs out, and where that ends: for the worker's ladder and for the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from lora_foundry.config.schema import JobConfig

Changes: TypeAlias = Mapping[str, float]
"""Dotted key (``lora.rank``) to the number that takes the place of the job's own."""

_LEAST_CLASSIC_RANK = 4
_CLASSIC_RESOLUTION = 0.5  # of what was asked for
_NEXT_RESOLUTION = 0.75


def next_change(config: JobConfig, asked: JobConfig) -> Changes | None:
    """What to change next, key to value; None where nothing may be.

    ``classic`` halves the batch, then the rank with alpha, then lowers the resolution; ``exact`` changes what
    ``memory.may_change`` names.

    Args:
        config: The job as it trained now.
        asked: The job as it was asked for.
    """
    memory, batch = config.memory, config.data.batch_size
    if memory.mode == "classic":
        if batch > 1:
            return {"data.batch_size": batch // 2}
        least = int(asked.data.resolution * _CLASSIC_RESOLUTION)
        return _lower_rank(config, _LEAST_CLASSIC_RANK) or _lower_resolution(config, least)
    if "resolution" in memory.may_change and (changes := _lower_resolution(config, 0)):
        return changes
    return _lower_rank(config, 1) if "rank" in memory.may_change else None


def changed(config: JobConfig, changes: Changes) -> JobConfig:
    """``config`` with values of dotted keys (``lora.rank``) in the place of its own."""
    for key, value in changes.items():
        group, _, leaf = key.partition(".")
        config = replace(config, **{group: replace(getattr(config, group), **{leaf: value})})
    return config


def last_rung(config: JobConfig) -> JobConfig:
    """``config`` as it trains when memory ran out at every rung: every change made, one row a forward, checkpointed."""
    asked = config
    while (changes := next_change(config, asked)) is not None:
        config = changed(config, changes)
    return changed(config, {"data.batch_size": 1, "trainer.gradient_checkpointing": True})


def _lower_rank(config: JobConfig, least: int) -> Changes | None:
    rank, alpha = config.lora.rank, config.lora.alpha
    lower = max(least, rank // 2)
    return {"lora.rank": lower, "lora.alpha": alpha * lower / rank} if lower < rank else None


def _lower_resolution(config: JobConfig, least: int) -> Changes | None:
    stride, now = config.model.stride, config.data.resolution
    lower = max(stride, int(now * _NEXT_RESOLUTION) // stride * stride)
    return {"data.resolution": lower} if least <= lower < now else None
