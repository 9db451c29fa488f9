"""The reverse question: what is the most that a card can train?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_foundry.memory.between import most_of, peaks_of, pictures_of
from lora_foundry.memory.predict import curve_of

if TYPE_CHECKING:
    from lora_foundry.config import JobConfig
    from lora_foundry.config.doing import Doing
    from lora_foundry.memory.libraries import Beside
    from lora_foundry.memory.predict import Needs

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
        too_much: What else than a step takes more than there is as asked, where a step of one row does not.
    """

    checkpointing: bool
    batch: int
    rank: int
    resolution: int
    members: int
    too_much: Doing | None = None


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
        return most_of(_at(config, cells * stride), beside=beside).total

    asked = max(1, config.data.resolution // stride)
    other = _largest_other(config, 1, beside)
    beyond = other.total > budget
    rows, members = (
        curve.most_rows(budget, [optimizer], beside),
        curve.most_members(budget, batch, optimizer, beside),
    )
    return Most(
        checkpointing=checkpointing,
        batch=0 if beyond else min(MOST_BATCH, rows),
        rank=_most_rank(config, budget, beside),
        resolution=stride * largest_within(budget, total, asked, MOST_RESOLUTION // stride),
        members=_most_beside(budget, lambda count: _largest_other(config, count, beside).total, members),
        too_much=other.doing if beyond and rows else None,
    )


def _largest_other(config: JobConfig, members: int, beside: Beside) -> Needs:
    """The largest of what so many members do that is no step."""
    _, *others = peaks_of([curve_of(config)] * members, pictures_of(config), [config] * members, beside)
    return max(others, key=lambda needs: needs.total)


def _most_beside(budget: int, total: Callable[[int], int], high: int) -> int:
    """The most members, up to ``high``, whose ``total`` is within ``budget``; it grows with them."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= budget else (low, middle - 1)
    return low


def _most_rank(config: JobConfig, budget: int, beside: Beside) -> int:
    """Everything about a rank is a straight line, so two traces tell of all."""
    lines = []
    for rank in (_LOW_RANK, _HIGH_RANK):
        ranked = _ranked(config, rank)
        peaks = peaks_of([curve_of(ranked, alone=True)], pictures_of(ranked), [ranked], beside)
        lines.append([needs.total for needs in peaks])
    most = MOST_RANK
    for low, high in zip(*lines, strict=True):
        if high > low:
            most = min(most, _LOW_RANK + (budget - low) * (_HIGH_RANK - _LOW_RANK) // (high - low))
        elif low > budget:
            most = 0
    return max(0, most)


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
