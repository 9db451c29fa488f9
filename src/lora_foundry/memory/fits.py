"""The reverse question: what is the most that a card can train?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_foundry.memory.predict import curve_of

if TYPE_CHECKING:
    from lora_foundry.config import JobConfig
    from lora_foundry.memory.libraries import Beside

MOST_RANK, MOST_RESOLUTION, MOST_BATCH = 1024, 4096, 4096
_LOW_RANK, _HIGH_RANK = 4, 16
_LINES = 8  # sides that are asked for by a line; after them the rest is halved


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


def most_that_fits(config: JobConfig, budget: int, *, checkpointing: bool, beside: Beside) -> Most:
    """What fits into ``budget`` bytes, with what the process takes ``beside`` its tensors.

    Raises:
        lora_foundry.models.protocol.BaseError: When the base's configs are missing.
        ValueError: When a target is not in the base.
    """
    config = replace(config, trainer=replace(config.trainer, gradient_checkpointing=checkpointing))
    optimizer, batch = config.optimizer, config.data.batch_size
    curve = curve_of(config)

    stride = config.model.stride

    def total(cells: int) -> int:
        return curve_of(_at(config, cells * stride)).needs(batch, [optimizer], beside).total

    asked = max(1, config.data.resolution // stride)
    return Most(
        checkpointing=checkpointing,
        batch=min(MOST_BATCH, curve.most_rows(budget, [optimizer], beside)),
        rank=_most_rank(config, budget, beside),
        resolution=stride * largest_within(budget, total, asked, MOST_RESOLUTION // stride),
        members=curve.most_members(budget, batch, optimizer, beside),
    )


def _most_rank(config: JobConfig, budget: int, beside: Beside) -> int:
    """Everything about a rank is a straight line, so two traces tell of all."""
    optimizer, batch = config.optimizer, config.data.batch_size
    curves = [curve_of(_ranked(config, rank)) for rank in (_LOW_RANK, _HIGH_RANK)]
    low, high = (curve.needs(batch, [optimizer], beside).total for curve in curves)
    most = _LOW_RANK + (budget - low) * (_HIGH_RANK - _LOW_RANK) // (high - low)
    return max(0, min(MOST_RANK, most))


def _ranked(config: JobConfig, rank: int) -> JobConfig:
    return replace(config, lora=replace(config.lora, rank=rank, alpha=float(rank)))


def _at(config: JobConfig, resolution: int) -> JobConfig:
    return replace(config, data=replace(config.data, resolution=resolution))


def largest_within(budget: int, total: Callable[[int], int], start: int, high: int) -> int:
    """The largest side from 1 to ``high`` whose ``total`` is within ``budget``; 0 where none is.

    ``total`` grows with the side, and costs seconds: nearly a straight line in the area, it is asked where such a line
    through the two nearest known sides meets the budget, and by halves where that has not come near in time.

    Args:
        budget: Bytes.
        total: Bytes by side.
        start: A side to begin with.
        high: The largest that is allowed.
    """
    known = {side: total(side) for side in {1, min(start, high)}}
    good, bad = 0, high + 1
    while True:
        good = max([good, *(side for side, size in known.items() if size <= budget)])
        bad = min([bad, *(side for side, size in known.items() if size > budget)])
        if bad - good <= 1:
            return good
        crossing = _on_the_line(budget, known) if len(known) < _LINES else None
        side = min(bad - 1, max(good + 1, (good + bad) // 2 if crossing is None else crossing))
        known[side] = total(side)


def _on_the_line(budget: int, known: Mapping[int, int]) -> int | None:
    """The largest side within ``budget`` on the line through the two known sides nearest to it."""
    near = sorted(known, key=lambda side: abs(known[side] - budget))[:2]
    if len(near) < 2:  # a line takes two points
        return None
    (one, other), (size, more) = near, (known[near[0]], known[near[1]])
    if size == more:
        return None
    area = one**2 + (budget - size) * (other**2 - one**2) / (more - size)
    return math.isqrt(int(area)) if area > 0 else None
