"""Packs that wait for a slot, and jobs of theirs that a pack under way has a place for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora_foundry.config.kinds import shared_text
from lora_foundry.config.length import rows_of
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.plan.packing import PackPlan
from lora_foundry.launch.records.live_jobs import LiveJob

Room = Callable[[Sequence[JobConfig]], bool]
"""Whether jobs may train together as one pack."""


@dataclass(kw_only=True, slots=True)
class Task:
    """A pack on its way.

    Attributes:
        pack: What is to be trained.
        spool: The file that its events are appended to.
        deaths: How many workers died over it, in this or a larger pack that it came from.
        not_before: When it may start (monotonic seconds).
        places: Most jobs of it at a time; those that it began with, or more once more were found to be worth it.
        closed: Whether its jobs stay among themselves: one of them may break whatever pack it is in.
        offer: Which offer it was planned for, as long as it waits as it was planned.
    """

    pack: PackPlan
    spool: Path
    deaths: int = 0
    not_before: float = 0.0
    places: int = 0
    closed: bool = False
    offer: int | None = None


Plan = Callable[[Mapping[int, JobConfig]], list[Task]]
"""Packs that jobs should train in, journalled; all of one offer."""


class Waiting:
    """The queue.

    Args:
        tasks: In the order to train them.
        jobs: By number.
    """

    def __init__(self, tasks: Sequence[Task], jobs: Mapping[int, LiveJob]) -> None:
        self._tasks = list(tasks)
        self._jobs = jobs
        self._cut = 1  # numbers the packs that are cut out of others

    def __bool__(self) -> bool:
        """Whether a job waits; those that were stopped while they waited do not count."""
        return any(not self._jobs[number].ended for task in self._tasks for number in task.pack.jobs)

    def due(self) -> int:
        """How many tasks may start now."""
        now = time.monotonic()
        return sum(
            task.not_before <= now and any(not self._jobs[number].ended for number in task.pack.jobs)
            for task in self._tasks
        )

    def packs(self) -> list[tuple[int, ...]]:
        """Jobs of each pack that waits, in the order in which they are taken."""
        return [task.pack.jobs for task in self._tasks]

    def next(self) -> Task | None:
        """The first task that may start, without the jobs that were stopped while they waited."""
        now = time.monotonic()
        for task in list(self._tasks):
            if task.not_before > now:
                continue
            self._tasks.remove(task)
            task.pack = self._pack(task.pack.name, [n for n in task.pack.jobs if not self._jobs[n].ended])
            if task.pack.jobs:
                return task
        return None

    def put_last(self, tasks: Sequence[Task]) -> None:
        """Behind all others."""
        self._tasks += tasks

    def take_offered(self) -> list[int]:
        """Take out the jobs of packs that wait as they were planned, where those are of several offers."""
        planned = [task for task in self._tasks if task.offer is not None]
        if len({task.offer for task in planned}) < 2:
            return []
        self._tasks = [task for task in self._tasks if task.offer is None]
        return [number for task in planned for number in task.pack.jobs if not self._jobs[number].ended]

    def put_first(self, tasks: Sequence[Task]) -> None:
        """Before all others."""
        self._tasks[:0] = tasks

    def joiner(self, running: Sequence[int], room: Room) -> int | None:
        """Take out the next job that may join a pack of ``running``."""
        now = time.monotonic()
        kind = shared_text(self._jobs[running[0]].record.config)
        together = [self._jobs[number].record.config for number in running]
        for task in self._tasks:
            if task.closed or task.not_before > now:
                continue
            for number in sorted(task.pack.jobs, key=lambda job: (-self._length(job), job)):
                job = self._jobs[number]
                fitting = not job.ended and shared_text(job.record.config) == kind
                if fitting and room([*together, job.record.config]):
                    self._leave(task, number)
                    return number
        return None

    def recut(self, most: Callable[[Sequence[JobConfig]], int]) -> list[PackPlan]:
        """Cut packs that wait and are larger than they may be now; returns those that were made."""
        made: list[PackPlan] = []
        for task in list(self._tasks):
            size = most([self._jobs[number].record.config for number in task.pack.jobs])
            if len(task.pack.jobs) <= size or task.closed:
                continue
            parts = self.cut(task, task.pack.jobs, size)
            place = self._tasks.index(task)
            self._tasks[place : place + 1] = parts
            made += [part.pack for part in parts]
        return made

    def cut(self, task: Task, jobs: Sequence[int], size: int) -> list[Task]:
        """Tasks of at most ``size`` of ``jobs``, which are of ``task``; the names say so."""
        parts = []
        for first in range(0, len(jobs), size):
            self._cut += 1
            name = f"{task.pack.name}.{self._cut}"
            pack = self._pack(name, jobs[first : first + size])
            spool = task.spool.with_name(f"{name}.jsonl")
            parts.append(replace(task, pack=pack, spool=spool, places=0, closed=False, offer=None))
        return parts

    def _length(self, number: int) -> float:
        """Long from short; a job of epochs is longer than one of steps only by chance, and few sweep both."""
        trainer = self._jobs[number].record.config.trainer
        return (trainer.epochs or trainer.max_steps or 0.0) * trainer.accumulate

    def _leave(self, task: Task, number: int) -> None:
        task.pack = self._pack(task.pack.name, [other for other in task.pack.jobs if other != number])
        if not task.pack.jobs:
            self._tasks.remove(task)

    def _pack(self, name: str, jobs: Sequence[int]) -> PackPlan:
        rows = rows_of(self._jobs[number].record.config for number in jobs)
        return PackPlan(name=name, jobs=tuple(jobs), rows=rows)
