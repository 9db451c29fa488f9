"""What the packs of a sweep consist of while it runs: who joins, who is handed back, and what is cut in halves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from lora_foundry.config.length import rows_of
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.ends import Ends
from lora_foundry.launch.farm.news import News
from lora_foundry.launch.farm.waiting import Plan, Task, Waiting
from lora_foundry.launch.plan.packing import Fits, PackPlan
from lora_foundry.launch.plan.sizes import Sizes, in_words
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.stored_jobs import has_checkpoint
from lora_foundry.launch.screen.live import Screen
from lora_foundry.wire.appending import is_full
from lora_foundry.wire.commands import OwnDevice, PackCommand, PackedJob
from lora_foundry.wire.events import (
    Event,
    Forked,
    GainFound,
    HandedBack,
    JudgedEvent,
    LogEvent,
    MemoryEvent,
    MetricsEvent,
    ProgressEvent,
    Refused,
    StateEvent,
)
from lora_foundry.wire.forks import Donor, Fork
from lora_foundry.wire.journal import ForkedLine, MemoryLine, PackLine, RestartLine

Order = TypeVar("Order", bound=PackCommand)


class Composition:
    """Every change of a pack is journalled, so that a resume begins again with what was.

    Args:
        jobs: By number; states are written into them.
        sizes: How many train together.
        fits: Whether jobs stay within the memory of a slot together.
        journal: The sweep's open journal.
        screen: Where the user is told.
        news: Takes what is measured, and ends.

    Attributes:
        waiting: What waits for a slot.
        ends: How jobs end.
    """

    def __init__(
        self, jobs: dict[int, LiveJob], sizes: Sizes, fits: Fits, journal: Journal, screen: Screen, news: News
    ) -> None:
        self._jobs = jobs
        self._news = news
        self._sizes = sizes
        self._fits = fits
        self._journal = journal
        self._screen = screen
        self.waiting = Waiting([], jobs)
        self.ends = Ends(journal, screen, news)

    def narrowed(self, task: Task) -> Task:
        """What of a pack fits the memory that is there now; the plan may have seen more, and the rest waits."""
        size = len(task.pack.jobs)
        while size > 1 and not self._fits(self._configs(task.pack.jobs[:size])):
            size = (size + 1) // 2
        if size == len(task.pack.jobs):
            return task
        first, *rest = self.waiting.cut(task, task.pack.jobs, size)
        for made in (first, *rest):
            made.closed = task.closed
            self._tell(made.pack)
        self.waiting.put_first(rest)
        self._screen.line(f"{task.pack.name}: there is memory for {size} of {len(task.pack.jobs)} together", "yellow")
        return first

    def add(self, tasks: Sequence[Task]) -> None:
        """More packs, behind those that wait; what was found out of sizes goes for them, too."""
        self.waiting.put_last(tasks)
        if any(task.offer is not None for task in tasks):
            self._recut()

    def gather(self, plan: Plan) -> None:
        """Pack together what was offered at different times and waits: no offer knew of the others."""
        gathered = self.waiting.take_offered()
        if gathered:
            configs = {number: self._jobs[number].record.config for number in gathered}
            self.add(plan(configs))

    def order(self, kind: type[Order], task: Task, jobs: Sequence[int], device: OwnDevice) -> Order:
        """What a worker that has ``device`` is told of ``jobs``: the command that is of ``kind``."""
        return kind(
            pack=task.pack.name,
            spool=task.spool,
            device=device,
            least_gain=self._sizes.trial(self._configs(task.pack.jobs)),
            jobs=tuple(
                PackedJob(
                    job=number,
                    dir=job.record.dir,
                    name=job.record.name,
                    resume=job.resume,
                    donor=self._donor(task, job.record.fork),
                )
                for number in jobs
                for job in (self._jobs[number],)
            ),
        )

    def _donor(self, task: Task, fork: Fork | None) -> Donor | None:
        """The job that a fork is of, which may have ended under an earlier launcher."""
        if fork is None:
            return None
        stored = self._journal.state.jobs[fork.of].stored
        return Donor(job=fork.of, name=stored.name, dir=task.spool.parents[1] / stored.dir)

    def joining(self, task: Task) -> list[int]:
        """Waiting jobs that take places which became free in ``task``'s pack; they are of it from here on."""
        running = self.unsettled(task)
        if task.closed or not running or self._configs(running)[0].trainer.deterministic:
            return []  # at which step somebody joins is another one every time
        joining: list[int] = []
        while (number := self.waiting.joiner([*running, *joining], lambda c: self._has_room(task, c))) is not None:
            joining.append(number)
        if joining:
            self.regroup(task, [*running, *joining])
        return joining

    def _has_room(self, task: Task, configs: Sequence[JobConfig]) -> bool:
        most = self._sizes.most(configs)
        rows = rows_of(configs)
        members = min(task.places, most.members)
        return len(configs) <= members and (most.rows is None or rows <= most.rows) and self._fits(configs)

    def regroup(self, task: Task, jobs: Sequence[int]) -> None:
        """The pack consists of ``jobs`` from here on: what a resume begins again together."""
        rows = rows_of(self._configs(jobs))
        task.pack = PackPlan(name=task.pack.name, jobs=tuple(jobs), rows=rows)
        self._tell(task.pack)

    def learn(self, task: Task, event: GainFound) -> None:
        """How many are worth training together goes for all that wait, too."""
        configs = self._configs(task.pack.jobs)
        self._journal.write(self._sizes.learn(task.pack.name, configs, event))
        task.places = max(task.places, self._sizes.most(configs).members)
        self._screen.line(f"{task.pack.name}: {in_words(event)}", "dim")
        self._recut()

    def take_back(self, task: Task, event: HandedBack | Refused) -> None:
        """Jobs that a pack does not train go on in packs of their own."""
        back = [number for number in event.jobs if number in task.pack.jobs and not self._jobs[number].ended]
        if isinstance(event, Refused):
            task.closed = True
            self._screen.line(f"{task.pack.name}: no room for {len(back)} more ({event.reason})", "yellow")
        self.regroup(task, [number for number in task.pack.jobs if number not in back])
        self._screen.regrouped(task.pack)
        back = self._still(back)
        if not back:
            return
        for number in back:
            self.ends.again(self._jobs[number])
        most = self._sizes.most(self._configs(back)).members
        tasks = self.waiting.cut(task, back, most)
        for made in tasks:
            self._tell(made.pack)
        self.waiting.put_first(tasks)

    def again(self, task: Task, left: Sequence[int], *, halve: bool) -> None:
        """Put the jobs that are left back into the queue, before all others."""
        self._screen.over(task.pack)
        left = self._still(left)
        if not left:
            return
        for number in left:
            self._jobs[number].resume = has_checkpoint(self._jobs[number].record.dir)
        middle = (len(left) + 1) // 2
        parts = [("a", left[:middle]), ("b", left[middle:])] if halve else [("", left)]
        tasks = []
        for suffix, jobs in parts:
            name = task.pack.name + suffix
            rows = rows_of(self._jobs[number].record.config for number in jobs)
            pack = PackPlan(name=name, jobs=tuple(jobs), rows=rows)
            spool = task.spool.with_name(f"{name}.jsonl") if suffix else task.spool
            tasks.append(Task(pack=pack, spool=spool, deaths=task.deaths, not_before=task.not_before, closed=True))
            self._tell(pack)
        self.waiting.put_first(tasks)

    def _recut(self) -> None:
        for pack in self.waiting.recut(lambda configs: self._sizes.most(configs).members):
            self._tell(pack)

    def _still(self, numbers: Sequence[int]) -> list[int]:
        """Those that are to go on."""
        return [job.record.index for job in self.ends.asked([self._jobs[number] for number in numbers])]

    def fold(self, event: Event, pack: str) -> None:
        """Take in what the worker of ``pack`` told of a job, or said."""
        job = None if event.job is None else self._jobs.get(event.job)
        if isinstance(event, LogEvent):
            self._screen.said(job, event.level or "info", event.message, pack)
        elif job is None:
            return
        elif isinstance(event, ProgressEvent):
            self._journal.hear(event)
            job.stepped()
            self._screen.stepped(job, pack)
        elif isinstance(event, MemoryEvent):
            self._journal.write(
                MemoryLine(job=event.job, rung=event.rung, step=event.step, reason=event.reason, values=event.values)
            )
        elif isinstance(event, JudgedEvent):
            self._journal.hear(event)
        elif isinstance(event, Forked):
            self._journal.write(ForkedLine(job=event.job, lineage=event.lineage))
        elif isinstance(event, MetricsEvent):
            self._news.measured(event)
        elif isinstance(event, StateEvent):
            self.ends.told(job, event)

    def has_no_disk(self, task: Task, sweep_dir: Path) -> bool:
        """Whether a worker says nothing because there is no room to say it, where a new one could not either."""
        if not is_full(sweep_dir):
            return False
        self._screen.line(f"no room in {sweep_dir}: free some space, {task.pack.name} goes on then", "yellow")
        return True

    def restarted(self, task: Task, numbers: Sequence[int]) -> None:
        """Count one more start for jobs whose worker died."""
        self._journal.write(RestartLine(pack=task.pack.name, jobs=tuple(numbers)))
        for number in numbers:
            self._jobs[number].restarts += 1

    def unsettled(self, task: Task) -> list[int]:
        """Jobs of the pack without an end."""
        return [number for number in task.pack.jobs if not self._jobs[number].ended]

    def _tell(self, pack: PackPlan) -> None:
        self._journal.write(PackLine(pack=pack.name, jobs=pack.jobs, rows=pack.rows))

    def _configs(self, jobs: Sequence[int]) -> list[JobConfig]:
        return [self._jobs[number].record.config for number in jobs]
