"""What a search found, read from the study in its sweep's folder: values, their front, and what decides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optuna import Study, load_study
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from lora_foundry.search.study import FILE, Where, mine

FEWEST_TRIALS = 20
"""With fewer complete trials the best tenth is one trial, which tells nothing of what decides."""


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


def found_of(sweep_dir: Path, name: str) -> Found | None:
    """What the search in a folder found; null where no study lies there: none began, or it is kept in a database.

    Args:
        sweep_dir: The sweep's folder.
        name: The sweep's id.
    """
    if not (sweep_dir / FILE).exists():
        return None
    storage = Where(storage=None, folder=sweep_dir, name=name).open()
    names = [one.study_name for one in storage.get_all_studies()]
    if not names:
        return None
    study = load_study(study_name=name if name in names else names[0], storage=storage)
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
        importance=_importance(study),
    )


def _importance(study: Study) -> Mapping[str, float]:
    """Shares, the largest first; of keys that every complete trial has."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_TRIALS:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {key: share for key, share in found.items() if math.isfinite(share)}
