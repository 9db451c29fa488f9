"""What was swept, and what people call it: the same in the names of runs, in the report and in the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SEED = "seed"
"""The key whose values repeat a point rather than make another."""
_CALLED = {"data.batch_size": "batch", "optimizer.lr": "lr"}
_SMALL, _LARGE = 0.01, 1e5  # outside of them a number is shorter with an exponent
_LONGEST = 40
_CUT = "..."


def swept_keys(points: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Keys whose values differ between points, in the order in which they were written."""
    every = dict.fromkeys(key for point in points for key in point)
    return tuple(key for key in every if len({point.get(key) for point in points}) > 1)


def short_name(key: str) -> str:
    """A key as people call it."""
    return _CALLED.get(key, key.rsplit(".", 1)[-1])


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The same of each; those that would be called alike keep their whole names."""
    short = {key: short_name(key) for key in keys}
    called = list(short.values())
    return {key: name if called.count(name) == 1 else key for key, name in short.items()}


def in_short(value: str) -> str:
    """A value as a person writes it: ``0.001`` as ``1e-3``; of a long one the end, where values differ."""
    try:
        number = float(value)
    except ValueError:
        return value if len(value) <= _LONGEST else _CUT + value[len(_CUT) - _LONGEST :]
    if not math.isfinite(number):
        return value
    if number == 0 or _SMALL <= abs(number) < _LARGE:
        return value if number.is_integer() else _told(f"{number:g}", number, value)
    digits, _, power = f"{number:e}".partition("e")
    return _told(f"{float(digits):g}e{int(power)}", number, value)


def _told(short: str, number: float, value: str) -> str:
    return short if float(short) == number else value
