"""Which learning rate to use, from a short run of many: the curves of their validation losses in, one rate out.

The rule: of the rates that stay stable, the highest whose loss at the end of the short run is within :data:`NEAR` of
the lowest; backed off to a :data:`MARGIN` below the lowest rate above it that became unstable. Unstable is a rate whose
job failed, or whose loss ended above the base's own, or rose by more than :data:`RISE` from its lowest. Two things pull
at a rate that is read from a short run: it is constant, so that a high one ends with noise which a falling schedule
takes away; and it forgives what a long run does not, since what falls steepest lies close below what diverges (Smith
2017, section 3.3, takes the rate before the loss becomes ragged). ``bench.find_lr`` holds it against full lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NEAR = 0.03
"""Share of the lowest loss by which a higher rate's may lie above it."""
MARGIN = 2.0
"""How far below an unstable rate the one to use lies at least, as a factor."""
RISE = 0.02
"""Share of its lowest loss by which a stable curve may have risen at its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateCurve:
    """A rate's short run.

    Attributes:
        rate: The learning rate.
        samples: Samples seen at each validation, ascending.
        losses: Over the base's own, at each of them.
        failed: Whether its job failed.
    """

    rate: float
    samples: tuple[int, ...]
    losses: tuple[float, ...]
    failed: bool = False

    @property
    def last(self) -> float:
        """The loss at the end; infinite where there is none."""
        return self.losses[-1] if self.losses and math.isfinite(self.losses[-1]) else math.inf

    @property
    def stable(self) -> bool:
        """Whether it could have gone on."""
        if self.failed or not all(map(math.isfinite, self.losses)) or self.last > 1.0:
            return False
        return bool(self.losses) and self.last <= min(self.losses) * (1.0 + RISE)


@dataclass(frozen=True, kw_only=True, slots=True)
class RateChoice:
    """The rate to use.

    Attributes:
        rate: It.
        why: In a sentence.
        advice: What to try before it is believed; null where nothing speaks against it.
    """

    rate: float
    why: str
    advice: str | None = None


def choose(curves: Sequence[RateCurve]) -> RateChoice | None:
    """The rate to use; None where no rate got below the base's loss.

    Args:
        curves: Of different rates, in any order.
    """
    rising = sorted(curves, key=lambda one: one.rate)
    stable = [one for one in rising if one.stable and one.last < 1.0]
    if not stable:
        return None
    lowest = min(stable, key=lambda one: one.last)
    best = [one for one in stable if one.last <= lowest.last * (1.0 + NEAR)][-1]
    ceiling = next((one.rate for one in rising if one.rate > best.rate and not one.stable), None)
    bound = math.inf if ceiling is None else ceiling / MARGIN
    rate = max((one.rate for one in stable if one.rate <= bound), default=stable[0].rate)
    rate = min(rate, best.rate)
    why = f"its loss fell lowest of {len(rising)} rates, to {best.last:.3f} of the base's"
    if best is not lowest:
        why = (
            f"{lowest.rate:.2g} fell lowest of {len(rising)} rates ({lowest.last:.3f} of the base's), and of those "
            f"within {NEAR * 100:g} % of it this is the highest ({best.last:.3f}): a rate that falls loses the noise"
        )
    if rate < best.rate:
        why = (
            f"{best.rate:.2g} ended at {best.last:.3f} of the base's, but {ceiling:.2g} was unstable already, "
            f"and a long training wants {MARGIN:g} times less than that"
        )
    elif ceiling is not None:
        why += f", and {ceiling:.2g} is the first that was unstable"
    return RateChoice(rate=rate, why=why, advice=_advice(best, rising))


def _advice(best: RateCurve, rising: Sequence[RateCurve]) -> str | None:
    if best is rising[-1]:
        return "it is the highest that was tried: higher ones may be better still (--high)"
    if best is rising[0]:
        return "it is the lowest that was tried: lower ones may be better still (--low)"
    return None


def spread(centre: float, count: int, *, decades: float = 3.0) -> list[float]:
    """``count`` rates, equally far apart by their logarithm, around ``centre``, to two digits.

    Args:
        centre: In the middle.
        count: How many, at least 2.
        decades: Powers of ten from the lowest to the highest.
    """
    return between(centre * 10 ** (-decades / 2), centre * 10 ** (decades / 2), count)


def between(low: float, high: float, count: int) -> list[float]:
    """``count`` rates from ``low`` to ``high``, equally far apart by their logarithm, to two digits."""
    step = (math.log(high) - math.log(low)) / (count - 1)
    return [float(f"{math.exp(math.log(low) + place * step):.2g}") for place in range(count)]
