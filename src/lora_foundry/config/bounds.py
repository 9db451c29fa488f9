"""A bound on a logged metric, as people write it: ``val/drift<=0.05`` (``hydra.sweeper.constraints``)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

FORM = "a metric, <= or >=, and a number, such as 'val/drift<=0.05'"
_WRITTEN = re.compile(r"\s*([^<>=\s]+)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What a metric has to keep to.

    Attributes:
        text: As written.
        metric: Its name.
        most: Whether ``limit`` is the most; else it is the least.
        limit: The number.
    """

    text: str
    metric: str
    most: bool
    limit: float

    def excess(self, value: float) -> float:
        """By how much ``value`` breaks it: above 0 where it does, as Optuna's constraints are."""
        return value - self.limit if self.most else self.limit - value


def bound_of(text: str) -> Bound | None:
    """What is written; None where that is no bound."""
    found = _WRITTEN.fullmatch(text)
    try:
        limit = float(found[3]) if found else math.nan
    except ValueError:
        return None
    if found is None or not math.isfinite(limit):
        return None
    return Bound(text=text, metric=found[1], most=found[2] == "<=", limit=limit)
