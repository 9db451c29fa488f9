"""What a search found, read from the study in its sweep's folder: values, their front, and what decides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from optuna import Study, load_study
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from lora_foundry.config.swept import short_names
from lora_foundry.search.study import FILE, Where, mine, reached

FEWEST_TRIALS = 20
"""With fewer complete trials the best tenth is one trial, which tells nothing of what decides."""
_WORTH_A_WORD = 0.005  # what rounds to no percent has none


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a study holds besides its jobs.

    Attributes:
        objectives: What it is about: a metric each.
        directions: ``minimize`` or ``maximize``, for each.
        told: Job to its values, of this sweep's complete trials.
        front: Of these the jobs that no other is better than in every objective.
        importance: Key to its share by PED-ANOVA (arXiv:2304.10255); empty where there are too few trials.
    """

    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    told: Mapping[int, tuple[float, ...]]
    front: tuple[int, ...]
    importance: Mapping[str, float]


def found_of(sweep_dir: Path, name: str, options: Mapping[str, object]) -> Found | None:
    """What a search found; null where no study began.

    Args:
        sweep_dir: The sweep's folder.
        name: The sweep's id.
        options: ``hydra.sweeper`` as the search began with it: where its study is kept, and what it is called.

    Raises:
        SweepError: When the study's database cannot be reached.
    """
    place, called = options.get("storage"), options.get("study")
    if place is None and not (sweep_dir / FILE).exists():
        return None
    where = Where(storage=None if place is None else str(place), folder=sweep_dir, name=str(called or name))
    with reached(where) as storage:
        names = [one.study_name for one in storage.get_all_studies()]
        if place is None and names and where.name not in names:
            where = replace(where, name=names[0])  # of a folder that was copied or renamed by hand
        return _found(load_study(study_name=where.name, storage=storage), name) if where.name in names else None


def _found(study: Study, name: str) -> Found:
    own = mine(study, name)
    told = {
        job: tuple(trial.values)
        for job, trial in sorted(own.items())
        if trial.state == TrialState.COMPLETE and all(map(math.isfinite, trial.values))
    }
    best = {one.number for one in study.best_trials} if told else set()
    directions = tuple(one.name.lower() for one in study.directions)
    return Found(
        objectives=tuple(study.metric_names or ["value"] * len(directions)),
        directions=directions,
        told=told,
        front=tuple(job for job in told if own[job].number in best),
        importance=importance(study),
    )


def what_decides(study: Study) -> str | None:
    """What decides in a line, the most first; null where there are too few trials to tell."""
    shares = importance(study)
    names = short_names(list(shares))
    told = [f"{names[key]} {100 * share:.0f} %" for key, share in shares.items() if share >= _WORTH_A_WORD]
    return f"What decides, by PED-ANOVA: {', '.join(told)}" if told else None


def importance(study: Study) -> Mapping[str, float]:
    """Shares, the largest first; of keys that every complete trial has."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_TRIALS:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {key: share for key, share in found.items() if math.isfinite(share)}
