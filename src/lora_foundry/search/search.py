"""A search while it runs: trials are asked for as places become free, told as they end, and none waits for another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from lora_foundry.config.errors import SweepError
from lora_foundry.config.logged import DRIFT, OF_THE_END
from lora_foundry.search.patience import Patience
from lora_foundry.search.reports import Reports
from lora_foundry.search.study import JOB, SWEEP, mine, trial_of
from lora_foundry.search.watch import COMPARED

if TYPE_CHECKING:
    from optuna import Study

    from lora_foundry.config.launcher import Settings
    from lora_foundry.config.search import SearchOptions
    from lora_foundry.launch.farm.farm import Farm
    from lora_foundry.launch.points.point import Point
    from lora_foundry.search.space import Space
    from lora_foundry.wire.outcomes import JobOutcome

_REFUSED = 20  # trials that the rules refuse one after the other, before the farm is looked after again
_LAST = 5  # trials by which the time of the next is judged


class Points(Protocol):
    """Composes and checks a trial's words as the point of that number."""

    def __call__(self, words: Sequence[str], index: int, /) -> Point: ...


@dataclass(kw_only=True, slots=True)
class _Open:
    """A trial whose job has no end yet.

    Attributes:
        trial: Optuna's.
        samples: That its job sees in all.
        last: Metric to what was measured last.
        seen: Samples seen.
        began: When something was measured of it first (seconds).
    """

    trial: Trial
    samples: int
    last: dict[str, float] = field(default_factory=dict)
    seen: int = 0
    began: float | None = None


@dataclass(kw_only=True, slots=True)
class Budget:
    """What a search may spend.

    Attributes:
        trials: How many trials.
        samples: How many samples all see together.
        ends: When the last trial must have ended (seconds of the search's clock).
        largest: Samples of the largest trial.
        foreseen_s: Seconds of the first trials, as planned.
    """

    trials: int | None
    samples: int | None
    ends: float | None
    largest: int
    foreseen_s: float


class Search:
    """Implements :class:`lora_foundry.launch.farm.news.Listener`.

    Args:
        space: What is searched.
        options: What the sweeper's configuration says.
        sweep: The sweep's id.
        points: Composes trials.
        now: A clock (seconds).
    """

    def __init__(
        self,
        space: Space,
        options: SearchOptions,
        *,
        sweep: str,
        points: Points,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._space = space
        self._ids = space.ids()
        self._options = options
        self._sweep = sweep
        self._points = points
        self._now = now
        self._open: dict[int, _Open] = {}
        self._next = 0
        self._asked = self._spent_samples = 0
        self._took: list[float] = []
        self._left: list[FrozenTrial] = []
        self._over = False
        self._limit = 1
        self._begun = False
        self._counted, self._exhausted = -1, False  # gone through once for each trial that was asked for

    def begin(self, study: Study, farm: Farm, settings: Settings, budget: Budget, *, most: int) -> None:
        """Take up a farm, and what an earlier process left of the same search.

        Args:
            study: Where trials are kept.
            farm: That they train in.
            settings: The launcher's.
            budget: What may be spent.
            most: Trials at a time.
        """
        self._study, self._budget = study, budget
        self._farm, self._limit = farm, most
        self._patience = Patience(farm.say, self._now)
        self._reports = Reports(self._study, settings, farm)
        single = self._options.objective[0] if len(self._options.objective) == 1 else None
        self._reported = settings.prune_on or single or COMPARED
        there = mine(self._study, self._sweep)
        self._asked = len(there)
        self._next = max([-1, *there, *farm.jobs]) + 1
        for job, frozen in there.items():
            self._take_up(job, frozen)
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if self._options.storage is None:  # nobody else asks there: its launcher was killed in the middle of asking
            for one in waiting:
                if SWEEP not in one.user_attrs:
                    self._study.tell(one.number, state=TrialState.FAIL)
        self._left += [one for one in waiting if one.user_attrs.get(SWEEP) == self._sweep and JOB not in one.user_attrs]
        self._begun = True

    def _take_up(self, job: int, frozen: FrozenTrial) -> None:
        if job not in self._farm.jobs:
            if not frozen.state.is_finished():
                self._left.append(frozen)
            return
        samples = self._farm.prospects.samples_of(self._farm.config_of(job)) or 0
        if frozen.state.is_finished():
            self._spent_samples += samples
            return
        trial = trial_of(self._study, frozen)
        self._open[job] = _Open(trial=trial, samples=samples)
        self._reports.made(trial, {*frozen.intermediate_values})

    def fill(self) -> None:
        """Ask for as many trials as there are places, and close the farm where none comes any more."""
        if self._over or not self._farm.takes or self._patience.is_away():
            return
        points = self._asked_points()
        if points:
            self._farm.offer(points)
        if not self._open and not self._affords() and not self._patience.is_away():
            self._over = True
            self._farm.close()

    def _asked_points(self) -> list[Point]:
        """The next trials; none while one waits that was offered before."""
        points: list[Point] = []
        refused = 0
        if self._open and self._farm.waiting:
            return points
        while refused < _REFUSED and len(self._open) < self._limit and self._affords():
            point = self._patience.tried(self._asked_for)
            if point is not None:
                points.append(point)
            elif self._patience.is_away():
                break
            else:
                refused += 1
        return points

    def _affords(self) -> bool:
        """Whether one more trial may begin."""
        budget = self._budget
        if self._farm.interrupted or self.is_exhausted():
            return False
        if self._left:
            return True
        if budget.trials is not None and self._asked >= budget.trials:
            return False
        if budget.samples is not None:
            committed = self._spent_samples + sum(one.samples for one in self._open.values())
            if committed + budget.largest > budget.samples:
                return False
        return budget.ends is None or self._now() + self._trial_s() <= budget.ends

    def _trial_s(self) -> float:
        return max(self._took[-_LAST:]) if self._took else self._budget.foreseen_s

    def is_exhausted(self) -> bool:
        """Whether every combination of the space has a trial."""
        if self._ids is None or self._left:
            return False
        if self._counted != self._asked:
            there = {self._space.id_of(one.params) for one in self._study.get_trials(deepcopy=False)}
            self._counted, self._exhausted = self._asked, self._ids <= there
        return self._exhausted

    def _asked_for(self) -> Point | None:
        """The next trial as a point; None for one that the configuration's rules refuse."""
        if self._left:
            trial = trial_of(self._study, self._left.pop(0))
            for key, distribution in self._space.distributions.items():
                trial._suggest(key, distribution)  # what was asked for and not told yet
        else:
            trial = self._study.ask(fixed_distributions=self._space.distributions)
            self._asked += 1
        trial.set_user_attr(SWEEP, self._sweep)
        try:
            point = self._points(self._space.words(trial.params), self._next)
        except SweepError as error:
            self._study.tell(trial, state=TrialState.FAIL)
            trial_words = " ".join(self._space.words(trial.params))
            self._farm.say(f"trial {trial.number} ({trial_words}) cannot be: {'; '.join(error.problems)}")
            return None
        trial.set_user_attr(JOB, self._next)
        samples = self._farm.prospects.samples_of(point.config)
        self._open[self._next] = _Open(trial=trial, samples=samples or self._budget.largest)
        self._next += 1
        return point

    def tell(self, job: int, samples: int, values: Mapping[str, object]) -> None:
        """See the protocol."""
        one = self._open.get(job)
        if one is None:
            return
        one.began = self._now() if one.began is None else one.began
        one.seen = max(one.seen, samples)
        one.last |= {key: float(value) for key, value in values.items() if isinstance(value, (int, float))}
        if len(self._options.objective) == 1 and (value := values.get(self._reported)) is not None:
            self._patience.keep(lambda: self._report(one.trial, job, samples, value))

    def _report(self, trial: Trial, job: int, samples: int, value: object) -> None:
        if self._reports.report(trial, job, samples, value):
            self._farm.prune(job)

    def ended(self, outcome: JobOutcome) -> None:
        """See the protocol."""
        one = self._open.pop(outcome.job, None)
        if one is None:
            return
        self._spent_samples += one.seen
        if outcome.state == "FINISHED" and one.began is not None:
            self._took.append(self._now() - one.began)
        if outcome.state == "KILLED":
            return  # a resume goes on with it
        self._patience.keep(lambda: self._told(one, outcome))

    def _told(self, one: _Open, outcome: JobOutcome) -> None:
        trial, known = one.trial, _known(one, outcome)
        kept_to = self._constrained(trial, known, outcome)
        if outcome.state == "PRUNED":
            self._study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return
        values = self._values(known, outcome) if outcome.state == "FINISHED" and kept_to else None
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self._study.tell(trial, values, skip_if_finished=True)

    def _constrained(self, trial: Trial, known: Mapping[str, Any], outcome: JobOutcome) -> bool:
        """Tell Optuna by how much a trial is beyond each bound; whether all could be said of a finished one."""
        bounds = self._options.bounds
        there = trial.constraints
        for bound in bounds:
            value = known.get(bound.metric)
            if _is_number(value) and bound.text not in there:
                trial.set_constraint(bound.text, bound.excess(float(value)))
        missing = [bound.metric for bound in bounds if not _is_number(known.get(bound.metric))]
        if missing and outcome.state == "FINISHED":
            self._farm.say(f"{outcome.name} ended without a number for {', '.join(missing)}")
        return not missing

    def _values(self, known: Mapping[str, Any], outcome: JobOutcome) -> list[float] | None:
        """Of each objective; None where one is not there or no number."""
        values = [known.get(name) for name in self._options.objective]
        found = [float(value) for value in values if _is_number(value)]
        if len(found) < len(values):
            missing = [name for name, value in zip(self._options.objective, values, strict=True) if value is None]
            self._farm.say(f"{outcome.name} ended without a number for {', '.join(missing) or 'its objective'}")
            return None
        return found

    def look(self) -> None:
        """See the protocol."""
        if self._begun:
            self.fill()


def _known(one: _Open, outcome: JobOutcome) -> dict[str, Any]:
    """Every metric that was told of a job: the last of each, and of its best adapter where that is what is compared."""
    summary = outcome.summary
    of_the_end = {name: getattr(summary, field) for name, field in OF_THE_END.items()} if summary else {}
    drift = {} if summary is None or summary.drift is None else {DRIFT: summary.drift}
    return {**one.last, **of_the_end, **drift, COMPARED: outcome.score}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def completed(space: Space, values: Mapping[str, Any], objectives: Sequence[float]) -> FrozenTrial:
    """A trial that was not searched for: of a job that finished before."""
    return create_trial(
        state=TrialState.COMPLETE,
        params=dict(values),
        distributions=space.distributions,
        values=list(objectives),
    )
