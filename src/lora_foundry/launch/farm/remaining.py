"""How long a sweep takes yet: its plan, corrected by what was measured while it runs.

A slot is busy until its pack is done and then takes the next that waits. Steps are reckoned at the plan's times, and at
what the steps of this sweep turned out to take beside them; a worker's start, and what comes after a job's last step
(scores, pictures, files), as they took on average so far in this sweep.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lora_foundry.launch.farm.stations import Station
from lora_foundry.launch.plan.clock import END_S, NEXT_S, START_S, Clock
from lora_foundry.launch.records.live_jobs import LiveJob

_LEAST_STEPS, _LEAST_S = 4, 1.0  # less tells nothing: kernels are chosen on the first steps, and memory is fetched


@dataclass(kw_only=True, slots=True)
class _Underway:
    """A pack on a slot.

    Attributes:
        pack: Its name.
        jobs: Those of it that have no end yet.
        began: When the slot took it (Unix seconds, as all times here).
        cold: Whether its worker had to start.
        first: When its first step was told.
        since: Job to when it was heard of first as the pack is composed now, and its steps then.
        over: Job to when its last step was told.
    """

    pack: str
    jobs: tuple[int, ...]
    began: float
    cold: bool
    first: float | None = None
    since: dict[int, tuple[float, int]] = field(default_factory=dict)
    over: dict[int, float] = field(default_factory=dict)


class Remaining:
    """Looks at a running sweep from time to time.

    Args:
        clock: The plan's times.
        jobs: By number.
    """

    def __init__(self, clock: Clock, jobs: Mapping[int, LiveJob]) -> None:
        self._clock = clock
        self._jobs = jobs
        self._underway: dict[str, _Underway] = {}
        self._warm: set[str] = set()
        self._factor = 1.0
        self._starts: dict[bool, list[float]] = {True: [], False: []}
        self._ends: list[float] = []

    def look(self, stations: Sequence[Station], waiting: Sequence[Sequence[int]], now: float) -> float | None:
        """Seconds until the last job has ended; null while nothing trains.

        Args:
            stations: All of the sweep.
            waiting: Jobs of each pack that waits, in the order in which they are taken.
            now: Unix seconds.
        """
        for station in stations:
            self._follow(station, now)
        self._correct()
        free = [(self._rest_s(one, now), place) for place, one in enumerate(self._underway.values())]
        if not free:
            return None
        heapq.heapify(free)
        for jobs in waiting:
            left = [number for number in jobs if not self._jobs[number].ended]
            if left:
                at, place = heapq.heappop(free)
                took = self._start_s(cold=False) + self._steps_s(left) + self._end_s(len(left))
                heapq.heappush(free, (at + took, place))
        return max(at for at, _ in free)

    def _follow(self, station: Station, now: float) -> None:
        """Take in what changed on a slot."""
        slot, task, one = station.slot.name, station.task, self._underway.get(station.slot.name)
        if one is not None:
            self._note_ends(one, now)
        if task is None:
            self._underway.pop(slot, None)
            return
        jobs = tuple(number for number in task.pack.jobs if not self._jobs[number].ended)
        if one is None or one.pack != task.pack.name:
            one = _Underway(pack=task.pack.name, jobs=jobs, began=now, cold=slot not in self._warm)
            self._underway[slot] = one
            self._warm.add(slot)
        elif jobs != one.jobs:
            one.jobs, one.since = jobs, {}
        for number in jobs:
            self._note_progress(one, number)

    def _note_progress(self, one: _Underway, number: int) -> None:
        job = self._jobs[number]
        if job.now.told_at is None or job.now.told_at < one.began:
            return
        if one.first is None:
            one.first = job.now.told_at
            self._starts[one.cold].append(max(0.0, one.first - one.began))
        one.since.setdefault(number, (job.now.told_at, job.step))
        if job.total and job.step >= job.total:
            one.over.setdefault(number, job.now.told_at)

    def _note_ends(self, one: _Underway, now: float) -> None:
        """What came after the last step of jobs that have their end since the last look."""
        ended = [number for number in one.jobs if self._jobs[number].ended and number in one.over]
        finished = [number for number in ended if self._jobs[number].state == "FINISHED"]
        if finished:
            took = now - min(one.over[number] for number in finished)
            self._ends += [took / len(finished)] * len(finished)

    def _rest_s(self, one: _Underway, now: float) -> float:
        start = 0.0 if one.first is not None else max(0.0, self._start_s(cold=one.cold) - (now - one.began))
        stepping = [number for number in one.jobs if number not in one.over]
        ending = [at for number, at in one.over.items() if number in one.jobs]
        end = self._end_s(len(one.jobs)) - (now - min(ending) if ending else 0.0)
        return start + self._steps_s(stepping) + max(0.0, end)

    def _steps_s(self, jobs: Sequence[int]) -> float:
        members = [self._jobs[number] for number in jobs]
        left = [self._steps_left(job) for job in members]
        return self._factor * self._clock.steps_s([job.record.config for job in members], left)

    def _steps_left(self, job: LiveJob) -> int:
        """Micro-steps; as many as the plan reckons with while the job did not tell."""
        config = job.record.config
        return max(0, job.total - job.step) * config.trainer.accumulate if job.total else self._clock.steps(config)

    def _start_s(self, *, cold: bool) -> float:
        known = self._starts[cold]
        return statistics.fmean(known) if known else START_S if cold else NEXT_S

    def _end_s(self, jobs: int) -> float:
        return jobs * (statistics.fmean(self._ends) if self._ends else END_S)

    def _correct(self) -> None:
        """What steps took over what the plan has for them, of all packs whose composition was seen for long enough."""
        took = planned = 0.0
        for one in self._underway.values():
            if not one.jobs or one.since.keys() != set(one.jobs) or one.over.keys() & set(one.jobs):
                continue
            members = [self._jobs[number] for number in one.jobs]
            longest = max(members, key=lambda job: job.step - one.since[job.record.index][1])
            since, before = one.since[longest.record.index]
            steps, seconds = longest.step - before, (longest.now.told_at or since) - since
            if steps >= _LEAST_STEPS and seconds >= _LEAST_S:
                took += seconds
                micro = steps * longest.record.config.trainer.accumulate
                planned += self._clock.steps_s([job.record.config for job in members], [micro] * len(members))
        if planned > 0.0:
            self._factor = took / planned
