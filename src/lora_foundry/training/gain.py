"""How many members are worth training together: found out on a pack's first steps, which all count.

A member's trajectory does not depend on its mates, so any part of a pack may take a step while the rest sits it
out. The whole pack takes a few timed steps, then its halves take as many in turn; the same work was done, and the
ratio of the times is what training together gained. Where that is next to nothing (the device is busy with half of
the rows already) the quarters are tried, and so on.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

WARM_STEPS = 2
ROUNDS = 3  # the quickest of which counts: a step is slowed by many things and quickened by none
LEAST_STEPS = 24  # that a member must have left, or the trial would be much of its training


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """What a trial found.

    Attributes:
        members: Of the whole pack.
        rows: Samples of one step of the whole pack.
        chosen: The most members that are worth training together.
        ratio: Time of the halves of so many over the time of all of them together; 1 for a single member.
        seconds: Members together to the seconds in which the whole pack took one step so.
    """

    members: int
    rows: int
    chosen: int
    ratio: float
    seconds: dict[int, float]


def trial(names: Sequence[str], rows: int, least: float) -> Generator[frozenset[str], float, Gain]:
    """Yields who takes the next step, is sent the seconds it took, and returns what was found.

    Args:
        names: The pack's members, two at least.
        rows: Samples of one step of all of them.
        least: The ratio from which on training together is worth it.
    """
    for _ in range(WARM_STEPS):
        yield frozenset(names)
    size, ratio = len(names), 1.0
    seconds = {size: (yield from _time([frozenset(names)]))}
    while size > 1:
        half = (size + 1) // 2
        seconds[half] = yield from _time(parts(names, half))
        ratio = seconds[half] / seconds[size]
        if ratio >= least:
            break
        size, ratio = half, 1.0
    return Gain(members=len(names), rows=rows, chosen=size, ratio=ratio, seconds=seconds)


def parts(names: Sequence[str], size: int) -> list[frozenset[str]]:
    """``names`` in groups of ``size``; the last may be smaller."""
    return [frozenset(names[first : first + size]) for first in range(0, len(names), size)]


def _time(groups: Sequence[frozenset[str]]) -> Generator[frozenset[str], float, float]:
    """Seconds of a step of every group, one after another; the quickest round of each counts."""
    best = [float("inf")] * len(groups)
    for _ in range(ROUNDS):
        for place, group in enumerate(groups):
            took = yield group
            best[place] = min(best[place], took)
    return sum(best)
