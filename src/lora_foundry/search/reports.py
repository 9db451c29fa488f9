"""What jobs measure, as reports of trials, and which of them a pruner ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_foundry.config.besides import samples_between
from lora_foundry.search.pruners import Pace, pruner_choice

if TYPE_CHECKING:
    from optuna import Study, Trial

    from lora_foundry.config.launcher import Settings
    from lora_foundry.config.schema import JobConfig
    from lora_foundry.launch.farm.farm import Farm


class Reports:
    """Reports are made at numbers of samples that all jobs have in common, so that equals are compared.

    A job is scored at the end of a step, which may be a few samples late; what it was scored at counts for the nearest
    multiple of what lies between two validations of the first job.

    Args:
        study: Of the trials.
        settings: Which pruner there is.
        farm: Of the jobs.
    """

    def __init__(self, study: Study, settings: Settings, farm: Farm) -> None:
        self._study = study
        self._settings = settings
        self._farm = farm
        self._pace: Pace | None = None
        self._made: dict[int, set[int]] = {}

    @property
    def off(self) -> bool:
        """Whether no job is ever pruned, so that nothing needs to be reported."""
        return self._settings.pruner == "none"

    def made(self, trial: Trial, steps: set[int]) -> None:
        """A trial has these already."""
        self._made[trial.number] = set(steps)

    def report(self, trial: Trial, job: int, samples: int, value: object) -> bool:
        """Report what was measured; true when the job should be pruned.

        Args:
            trial: The job's.
            job: Its number.
            samples: That it has seen.
            value: What was measured; anything but a number is passed over.
        """
        if self.off or isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        unit = self._paced(self._farm.config_of(job)).unit
        step = round(samples / unit) * unit
        made = self._made.setdefault(trial.number, set())
        if step <= 0 or step in made:
            return False
        trial.report(value if math.isfinite(value) else math.nan, step)
        made.add(step)
        return bool(trial.should_prune())

    def _paced(self, config: JobConfig) -> Pace:
        if self._pace is None:
            longest = self._farm.prospects.samples_of(config)
            unit = samples_between(config.validation, config.trainer, config.data) or longest or 1
            self._pace = Pace(unit=unit, longest=longest or unit)
            pruner = pruner_choice(self._settings.pruner).build(self._settings, self._pace)
            if pruner is not None:
                self._study.pruner = pruner
        return self._pace
