"""Pruners that Optuna has otherwise.

Its median rule compares with trials that are over; where all train together that would end nobody. Its patience waits
for reports, not samples, and ends who gets worse, not who stands still.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner
from optuna.study import StudyDirection

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_LEAST = 4  # a median of fewer says little


class MedianOfAll(BasePruner):
    """Prunes who is worse at a report than the median of all that made it (Golovin et al. 2017, section 2.3).

    Args:
        first: Steps before which nobody is pruned.
    """

    def __init__(self, first: int) -> None:
        self._first = first

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self._first:
            return False
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        there = [
            one.intermediate_values[step] for one in study.get_trials(deepcopy=False) if step in one.intermediate_values
        ]
        sound = [sign * value for value in there if math.isfinite(value)]
        own = sign * min((sign * value for value in trial.intermediate_values.values()), default=math.nan)
        if not math.isfinite(trial.intermediate_values[step]):
            return True
        return len(sound) >= _LEAST and sign * own > statistics.median(sound)


class Unimproved(BasePruner):
    """Prunes who has had no better report than its best for so many steps.

    Args:
        patience: Steps.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None:
            return False
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        sound = {at: sign * value for at, value in trial.intermediate_values.items() if math.isfinite(value)}
        best = min(sound, key=lambda at: (sound[at], at), default=0)
        return step - best >= self._patience
