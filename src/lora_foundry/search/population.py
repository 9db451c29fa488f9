"""A population while it trains: its worst members give their places to forks of its best ones.

Jaderberg et al., Population Based Training of Neural Networks (2017, arXiv:1711.09846), with truncation selection: each
time that all members were judged, those in the lower quantile end, and for each of them a job begins where one of the
upper quantile is (:mod:`lora_foundry.training.forking`), with settings that are a little other. No member waits for
another: whoever was judged first has trained on when the last one's number comes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lora_foundry.config.errors import SweepError
from lora_foundry.config.streams import stream_key
from lora_foundry.launch.records.stored_jobs import has_checkpoint
from lora_foundry.search.mutating import Mutation
from lora_foundry.wire.forks import Fork

if TYPE_CHECKING:
    from lora_foundry.config.search import PbtOptions
    from lora_foundry.launch.farm.farm import Farm
    from lora_foundry.launch.points.point import Point
    from lora_foundry.search.search import Points
    from lora_foundry.search.space import Space
    from lora_foundry.wire.outcomes import JobOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """When members are compared.

    Attributes:
        every: Samples between two times.
        total: Samples that each sees in all.
    """

    every: int
    total: int

    def time_of(self, samples: int) -> int:
        """How many have come; a member is judged at the end of a step, which may be a few samples late."""
        return samples // self.every

    def is_worth(self, time: int) -> bool:
        """Whether a fork could train until it is judged once more."""
        return time > 0 and (time + 1) * self.every <= self.total


@dataclass(kw_only=True, slots=True)
class _Member:
    """A member that has no end yet.

    Attributes:
        values: Its settings.
        scores: The time to what was measured then; lower is better.
    """

    values: dict[str, Any]
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def latest(self) -> int:
        """When it was judged last; 0 before."""
        return max(self.scores, default=0)


class Population:
    """Implements :class:`lora_foundry.launch.farm.news.Listener`.

    Args:
        space: What is mutated.
        options: How.
        seed: Of what is drawn.
        points: Composes jobs.
        metric: What members are compared by.
        maximize: Whether more of it is better.
    """

    def __init__(  # what a population is made of
        self, space: Space, options: PbtOptions, *, seed: int, points: Points, metric: str, maximize: bool
    ) -> None:
        self._space = space
        self._options = options
        self._seed = seed
        self._mutation = Mutation(space, options, seed)
        self._points = points
        self._metric = metric
        self._sign = -1.0 if maximize else 1.0
        self._members: dict[int, _Member] = {}
        self._replaced: set[int] = set()
        self._next = self._time = self._free = 0
        self._farm: Farm | None = None

    def begin(self, farm: Farm, pace: Pace) -> None:
        """Offer the first members.

        Raises:
            SweepError: When they cannot be taken.
        """
        self._farm, self._pace = farm, pace
        first = self._mutation.first()
        points = [self._points(self._space.words(values), number) for number, values in enumerate(first)]
        self._members = {number: _Member(values=values) for number, values in enumerate(first)}
        self._next = len(points)
        farm.offer(points)

    def go_on(self, farm: Farm, pace: Pace, jobs: Mapping[int, Mapping[str, Any]], forks: Sequence[Fork]) -> None:
        """Take up what an earlier process left; what it had measured is told next, and decides nothing.

        Args:
            farm: With the jobs that have no end yet.
            pace: When members are compared.
            jobs: The settings of those jobs.
            forks: Of the whole sweep.
        """
        self._replaced = {one.instead_of for one in forks if one.instead_of is not None}
        self._members = {job: _Member(values=dict(values)) for job, values in jobs.items() if job not in self._replaced}
        self._next = max(farm.jobs, default=-1) + 1
        self._pace = pace
        farm.recall()
        self._time = min((one.latest for one in self._members.values()), default=0)
        self._farm = farm
        for job in self._replaced & set(jobs):
            farm.prune(job)

    def tell(self, job: int, samples: int, values: Mapping[str, object]) -> None:
        """See the protocol."""
        value, member = values.get(self._metric), self._members.get(job)
        if member is None or isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        score = self._sign * value if math.isfinite(value) else math.inf
        member.scores.setdefault(self._pace.time_of(samples), score)
        self._select()

    def ended(self, outcome: JobOutcome) -> None:
        """See the protocol; one that failed leaves its place to a fork the next time."""
        if self._members.pop(outcome.job, None) is not None and outcome.state == "FAILED":
            self._free += 1
            self._select()

    def look(self) -> None:
        """See the protocol."""
        if self._farm is not None and not self._members:
            self._farm.close()

    def _select(self) -> None:
        """Where all were judged once more: the worst end, and forks of the best take their places."""
        farm = self._farm
        if farm is None or not farm.takes or farm.interrupted or not self._members:
            return
        time = min(one.latest for one in self._members.values())
        if time <= self._time:
            return
        self._time = time
        if not self._pace.is_worth(max(one.latest for one in self._members.values())):
            return
        ranked = sorted(self._members, key=lambda job: (self._members[job].scores.get(time, math.inf), job))
        count = max(1, int(self._options.quantile * self._options.population))
        best = [job for job in ranked[:count] if math.isfinite(self._members[job].scores.get(time, math.inf))]
        worst = [job for job in ranked[count:] if job in ranked[-count:]]
        free, self._free = self._free, 0
        if best:
            self._fork(farm, best, [*worst, *[None] * free], time)

    def _fork(self, farm: Farm, best: Sequence[int], places: Sequence[int | None], time: int) -> None:
        points: list[Point] = []
        for instead_of in places:
            number = self._next
            donors = self._donors(farm, best, instead_of)
            if not donors:
                continue
            of = donors[stream_key(self._seed, "donor", number) % len(donors)]
            values = self._mutation.of(self._members[of].values, number)
            try:
                point = self._points(self._space.words(values), number)
            except SweepError as error:
                farm.say(f"a fork of job {of} cannot be: {'; '.join(error.problems)}")
                continue
            self._next += 1
            points.append(replace(point, fork=Fork(of=of, instead_of=instead_of)))
            self._members[number] = _Member(values=values, scores={time: self._members[of].scores[time]})
        if points:
            farm.offer(points)
        for point in points:
            if point.fork is not None and point.fork.instead_of is not None:
                self._replaced.add(point.fork.instead_of)
                del self._members[point.fork.instead_of]
                farm.prune(point.fork.instead_of)

    @staticmethod
    def _donors(farm: Farm, best: Sequence[int], instead_of: int | None) -> list[int]:
        """Of the best those in whose pack the place is, and those that left a checkpoint: the rest cannot be copied."""
        pack = None if instead_of is None else farm.jobs[instead_of].pack
        return [job for job in best if farm.jobs[job].pack == pack or has_checkpoint(farm.outcome(job).dir)]
