"""The reverse question: what is the most that a card can train?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from src.memory.predict import curve_of

if TYPE_CHECKING:
    from src.config import JobConfig

MOST_RANK, MOST_RESOLUTION, MOST_BATCH = 1024, 4096, 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Most:
    """The largest value of each kind that fits, the others as asked; 0 where nothing does.

    Attributes:
        checkpointing: Whether activations are computed again in the backward pass.
        batch: Rows of one forward of a single member.
        rank: Of one member's adapter.
        resolution: Side of the picture, pixels.
        members: How many such members train in one forward.
    """

    checkpointing: bool
    batch: int
    rank: int
    resolution: int
    members: int


def most_that_fits(config: JobConfig, budget: int, *, checkpointing: bool, context: int) -> Most:
    """What fits into ``budget`` bytes, of which ``context`` are no tensors.

    Raises:
        src.models.protocol.BaseError: When the base's configs are missing.
        ValueError: When a target is not in the base.
    """
    config = replace(config, trainer=replace(config.trainer, gradient_checkpointing=checkpointing))
    optimizer, batch = config.optimizer.name, config.data.batch_size
    curve = curve_of(config)

    def fits(changed: JobConfig) -> bool:
        return curve_of(changed).needs(batch, [optimizer], context).total <= budget

    stride = config.model.stride
    return Most(
        checkpointing=checkpointing,
        batch=min(MOST_BATCH, curve.most_rows(budget, [optimizer], context)),
        rank=_largest(1, MOST_RANK, _by_rank(config, budget, context)),
        resolution=stride * _largest(1, MOST_RESOLUTION // stride, lambda n: fits(_at(config, n * stride))),
        members=curve.most_members(budget, batch, optimizer, context),
    )


def _by_rank(config: JobConfig, budget: int, context: int) -> Callable[[int], bool]:
    """Everything about a rank is a straight line, so two traces tell of all."""
    low, high = (curve_of(_ranked(config, rank)) for rank in (4, 16))
    optimizer, batch = config.optimizer.name, config.data.batch_size

    def total(rank: int) -> int:
        one, other = (curve.needs(batch, [optimizer], context).total for curve in (low, high))
        return one + (other - one) * (rank - 4) // 12

    return lambda rank: total(rank) <= budget


def _ranked(config: JobConfig, rank: int) -> JobConfig:
    return replace(config, lora=replace(config.lora, rank=rank, alpha=float(rank)))


def _at(config: JobConfig, resolution: int) -> JobConfig:
    return replace(config, data=replace(config.data, resolution=resolution))


def _largest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The largest number from ``low`` to ``high`` at which ``holds``, which once false stays so; else 0."""
    if not holds(low):
        return 0
    size = low
    while size < high and holds(min(high, 2 * size)):
        size = min(high, 2 * size)
    bad = min(high, 2 * size) if size < high else high + 1
    while bad - size > 1:
        middle = (size + bad) // 2
        if holds(middle):
            size = middle
        else:
            bad = middle
    return size
