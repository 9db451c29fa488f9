"""A sweep's packs on its slots: workers are started, fed, watched, started again and ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config.appending import is_full
from src.config.control import Control
from src.config.events import Event
from src.config.schema import JobConfig
from src.launch.engines.protocol import Engine, Slot, Worker
from src.launch.journal import ENDED, Journal
from src.launch.members import Member
from src.launch.plan import Fits, Pack
from src.launch.resume import has_checkpoint
from src.launch.screen import Screen
from src.launch.settings import Settings
from src.launch.sharing import Sharing
from src.launch.signals import Interrupts
from src.launch.sizes import EVENT, Sizes, in_words
from src.launch.waiting import Task, Waiting

_TICK_S = 0.02  # a pack that has ended leaves its slot idle for one of these
_LONGEST_PAUSE_S = 60.0
_STOP_S = 60.0  # for a clean stop after an interrupt, then the worker is killed
_LEAVE_S = 15.0  # for an idle worker to go


@dataclass(kw_only=True, slots=True)
class _Station:
    """A slot, its worker while it has one, and what that does.

    Attributes:
        slot: The slot.
        worker: Warm between packs.
        task: What it works on.
        work: The last count of work that it told.
        moved_at: When something of it moved last (monotonic seconds).
        broken: Why the pack under way cannot go on as a whole.
        trained: Jobs of the pack that the worker has let in.
    """

    slot: Slot
    worker: Worker | None = None
    task: Task | None = None
    work: object = None
    moved_at: float = 0.0
    broken: str | None = None
    trained: frozenset[int] = frozenset()


class Supervisor:
    """Runs a sweep's packs and keeps its members up to date; never raises for one job.

    A pack whose worker died or stalled is started again from its checkpoints, after a pause. When that happens
    twice it is split, so that a job that kills workers ends up alone; a job is FAILED when its restarts are used up.
    A place that becomes free in a pack goes to the next waiting job that may train with those that are left.

    Args:
        sweep_dir: The sweep's folder.
        engine: Starts workers.
        slots: Where.
        settings: How patient to be.
        cwd: Folder that workers run in.
        members: Job number to member; states are written into it.
        sizes: How many train together.
        fits: Whether jobs stay within the memory of a slot together.
        journal: The sweep's open journal.
        screen: Where the user is told.
        interrupts: Entered by the caller.
        sharing: This sweep's turns on the devices.
    """

    def __init__(  # noqa: PLR0913  # what a sweep is made of
        self,
        *,
        sweep_dir: Path,
        engine: Engine,
        slots: Sequence[Slot],
        settings: Settings,
        cwd: Path,
        members: dict[int, Member],
        sizes: Sizes,
        fits: Fits,
        journal: Journal,
        screen: Screen,
        interrupts: Interrupts,
        sharing: Sharing,
    ) -> None:
        self._sweep_dir = sweep_dir
        self._engine = engine
        self._stations = [_Station(slot=slot) for slot in slots]
        self._settings = settings
        self._cwd = cwd
        self._members = members
        self._sizes = sizes
        self._fits = fits
        self._journal = journal
        self._screen = screen
        self._interrupts = interrupts
        self._sharing = sharing
        self._control = Control(sweep_dir)
        self._waiting = Waiting([], members)
        self._asked_at: float | None = None

    def run(self, tasks: Sequence[Task]) -> None:
        """Train every pack."""
        self._waiting = Waiting(tasks, self._members)
        try:
            while self._busy() or (self._waiting and not self._interrupts.asked):
                moved = [self._attend(station) for station in self._stations]
                self._sharing.say()
                self._heed()
                self._screen.refresh()
                if not any(moved):
                    time.sleep(_TICK_S)
        finally:
            self._dismiss()
        for member in self._members.values():
            if not member.ended:
                self._settle(member, "KILLED", error="interrupted before it started")

    def _busy(self) -> bool:
        return any(station.task for station in self._stations)

    def _attend(self, station: _Station) -> bool:
        """One look at a station; true when something moved."""
        if station.task is not None:
            return self._follow(station, station.task)
        task = self._waiting.next() if self._placed(station) else None
        if task is None:
            return False
        self._begin(station, self._narrowed(task))
        return True

    def _narrowed(self, task: Task) -> Task:
        """What of a pack fits the memory that is there now; the plan may have seen more, and the rest waits."""
        size = len(task.pack.jobs)
        while size > 1 and not self._fits(self._configs(task.pack.jobs[:size])):
            size = (size + 1) // 2
        if size == len(task.pack.jobs):
            return task
        first, *rest = self._waiting.cut(task, task.pack.jobs, size)
        for made in (first, *rest):
            made.closed = task.closed
            self._journal.write("pack", pack=made.pack.name, jobs=list(made.pack.jobs), rows=made.pack.rows)
        self._waiting.put_first(rest)
        self._screen.line(f"{task.pack.name}: there is memory for {size} of {len(task.pack.jobs)} together", "yellow")
        return first

    def _placed(self, station: _Station) -> bool:
        """Whether the station has its device; one that nothing is left for is given back to other sweeps."""
        if not self._waiting or self._interrupts.asked:
            self._part(station)
            return False
        slot = self._sharing.take(station.slot)
        station.slot = slot or station.slot
        return slot is not None

    def _part(self, station: _Station) -> None:
        worker, station.worker = station.worker, None
        if worker is not None:
            code = worker.leave(_STOP_S if station.task else _LEAVE_S)
            self._journal.write("worker", state="left", pid=worker.pid, code=code)
        self._sharing.give_back(station.slot)

    def _begin(self, station: _Station, task: Task) -> None:
        self._screen.pack(task.pack)
        try:
            worker = self._alive(station)
        except OSError as error:
            station.task = task
            self._fail(station, f"the worker could not be started: {error}")
            return
        station.task, station.work, station.broken = task, None, None
        station.trained = frozenset(task.pack.jobs)
        task.places = len(task.pack.jobs)
        station.moved_at = time.monotonic()
        self._journal.write("began", pack=task.pack.name, slot=station.slot.name, jobs=list(task.pack.jobs))
        worker.run(self._order(task, task.pack.jobs))

    def _order(self, task: Task, jobs: Sequence[int]) -> dict[str, Any]:
        """What a worker is told of ``jobs``."""
        records = {number: self._members[number].record for number in jobs}
        return {
            "pack": task.pack.name,
            "spool": str(task.spool),
            "least_gain": self._sizes.trial(self._configs(task.pack.jobs)),
            "jobs": [
                {"job": number, "dir": str(record.dir), "name": record.name, "resume": self._members[number].resume}
                for number, record in records.items()
            ],
        }

    def _configs(self, jobs: Sequence[int]) -> list[JobConfig]:
        return [self._members[number].record.config for number in jobs]

    def _follow(self, station: _Station, task: Task) -> bool:
        worker = station.worker
        if worker is None:
            return False
        gone = worker.code is not None  # asked before reading, so that its last events are read
        events = worker.events()
        ends = [self._take(station, task, event) for event in events]
        if any(ends):
            self._ended(station, task)
        elif events and not gone:
            self._fill(station, task, worker)
        elif gone:
            self._journal.write("worker", state="ended", pid=worker.pid, code=worker.code)
            self._died(station, task, worker.death())
        elif time.monotonic() - station.moved_at > self._settings.stall_s:
            self._stalled(station, task, worker)
        return bool(events)

    def _alive(self, station: _Station) -> Worker:
        if station.worker is not None and station.worker.code is not None:
            station.worker.leave(0.0)
            station.worker = None
        if station.worker is None:
            station.worker = self._engine.start(
                station.slot,
                self._sweep_dir,
                self._cwd,
                (self._journal.fileno(), *self._sharing.descriptors(station.slot)),
            )
            self._journal.write("worker", state="started", pid=station.worker.pid, slot=station.slot.name)
            self._screen.phase("starting the worker")
        return station.worker

    def _fill(self, station: _Station, task: Task, worker: Worker) -> None:
        """Give places that became free to jobs that wait."""
        running = self._unsettled(task)
        if task.closed or station.broken or self._interrupts.asked or not running:
            return
        joining: list[int] = []
        while (number := self._waiting.joiner([*running, *joining], lambda c: self._has_room(task, c))) is not None:
            joining.append(number)
        if not joining:
            return
        self._regroup(task, [*running, *joining])
        self._journal.write("began", pack=task.pack.name, slot=station.slot.name, jobs=joining)
        self._screen.joined(task.pack, joining)
        worker.join(self._order(task, joining))

    def _has_room(self, task: Task, configs: Sequence[JobConfig]) -> bool:
        most = self._sizes.most(configs)
        rows = sum(config.data.batch_size for config in configs)
        members = min(task.places, most.members)
        return len(configs) <= members and (most.rows is None or rows <= most.rows) and self._fits(configs)

    def _regroup(self, task: Task, jobs: Sequence[int]) -> None:
        """The pack consists of ``jobs`` from here on: what a resume begins again together."""
        rows = sum(config.data.batch_size for config in self._configs(jobs))
        task.pack = Pack(name=task.pack.name, jobs=tuple(jobs), rows=rows)
        self._journal.write("pack", pack=task.pack.name, jobs=list(jobs), rows=rows)

    def _take(self, station: _Station, task: Task, event: Event) -> bool:
        """Fold one event; true when it ends the pack."""
        kind, member = event["kind"], self._members.get(event.get("job"))  # type: ignore[arg-type]
        if kind == "worker":
            return self._take_word(station, task, event)
        station.moved_at = time.monotonic()
        if kind == "log":
            self._screen.said(member, str(event.get("level", "info")), str(event.get("message", "")))
        elif member is None:
            return False
        elif kind == "progress":
            member.progress(event)
        elif kind == "memory":
            self._journal.write("memory", **{key: value for key, value in event.items() if key not in ("t", "kind")})
        elif kind == "state":
            self._take_state(member, event)
        return False

    def _take_state(self, member: Member, event: Event) -> None:
        state = event.get("state")
        if state in ("RUNNING", *ENDED) and not member.ended and state != member.state:  # said again after a restart
            self._settle(member, state, error=event.get("error"), summary=event.get("summary"))

    def _take_word(self, station: _Station, task: Task, event: Event) -> bool:
        """What a worker says of itself; true when the pack is over."""
        state = event.get("state")
        if state != "alive" or event.get("work") != station.work:
            station.work, station.moved_at = event.get("work"), time.monotonic()
        if state == "pack_broken":
            station.broken = str(event.get("error"))
        elif state == "gain":
            self._learn(task, event)
        elif state in ("handed_back", "refused"):
            self._take_back(task, event)
        elif state == "pack_ended":
            station.trained = frozenset(event["jobs"])
            return True
        return False

    def _learn(self, task: Task, event: Event) -> None:
        """How many are worth training together goes for all that wait, too."""
        configs = self._configs(task.pack.jobs)
        self._journal.write(EVENT, pack=task.pack.name, **self._sizes.learn(configs, event))
        task.places = max(task.places, self._sizes.most(configs).members)
        self._screen.line(f"{task.pack.name}: {in_words(event)}", "dim")
        for pack in self._waiting.recut(lambda configs: self._sizes.most(configs).members):
            self._journal.write("pack", pack=pack.name, jobs=list(pack.jobs), rows=pack.rows)

    def _take_back(self, task: Task, event: Event) -> None:
        """Jobs that a pack does not train go on in packs of their own."""
        back = [number for number in event["jobs"] if number in task.pack.jobs and not self._members[number].ended]
        if event.get("state") == "refused":
            task.closed = True
            self._screen.line(f"{task.pack.name}: no room for {len(back)} more ({event.get('reason')})", "yellow")
        if not back:
            return
        for number in back:
            member = self._members[number]
            member.resume = has_checkpoint(member.record.dir)
            member.state = "PENDING"
            self._journal.write("job", job=number, state="PENDING", error=None, summary=None)
        most = self._sizes.most(self._configs(back)).members
        tasks = self._waiting.cut(task, back, most)
        for made in tasks:
            self._journal.write("pack", pack=made.pack.name, jobs=list(made.pack.jobs), rows=made.pack.rows)
        self._waiting.put_first(tasks)
        self._regroup(task, [number for number in task.pack.jobs if number not in back])
        self._screen.regrouped(task.pack)

    def _settle(self, member: Member, state: str, *, error: str | None = None, summary: dict | None = None) -> None:
        member.settle(state, error=error, summary=summary)
        self._journal.write("job", job=member.record.index, state=state, error=error, summary=summary)
        self._screen.changed(member)

    def _unsettled(self, task: Task) -> list[int]:
        return [number for number in task.pack.jobs if not self._members[number].ended]

    def _ended(self, station: _Station, task: Task) -> None:
        """The worker said that the pack is over."""
        late = [number for number in self._unsettled(task) if number not in station.trained]
        if late and station.broken is None and not self._interrupts.asked:
            self._regroup(task, late)  # they came when the pack was over: the worker trains them next
            station.trained = frozenset(late)
            return
        left = self._unsettled(task)
        if station.broken is not None and len(left) > 1 and not self._interrupts.asked:
            self._screen.line(f"{task.pack.name}: {station.broken}; it goes on in two halves", "yellow")
            station.task = None
            self._again(task, left, halve=True)
            return
        self._fail(station, station.broken or "the worker ended the pack without a result for this job")

    def _stalled(self, station: _Station, task: Task, worker: Worker) -> None:
        if is_full(self._sweep_dir):  # it cannot say what it does, and a new one could not either
            station.moved_at = time.monotonic()
            self._screen.line(f"no room in {self._sweep_dir}: free some space, {task.pack.name} goes on then", "yellow")
            return
        why = f"the worker did nothing for {self._settings.stall_s:g} s (hydra.launcher.stall_s) and was ended"
        self._journal.write("worker", state="stalled", pid=worker.pid, slot=station.slot.name)
        worker.kill()
        worker.leave(_LEAVE_S)
        self._died(station, task, why)

    def _died(self, station: _Station, task: Task, why: str) -> None:
        """The pack's worker is gone: once more from the checkpoints, split at the second time, not for ever."""
        words = station.worker.last_words() if station.worker is not None else ""
        left = self._unsettled(task)
        spent = [number for number in left if self._members[number].restarts >= self._settings.max_restarts]
        most = self._settings.max_restarts
        for_good = f"{why}, after {most} restarts (hydra.launcher.max_restarts)" if most else why
        if self._interrupts.asked or len(spent) == len(left):
            self._fail(station, for_good, words)
            return
        self._end_jobs(spent, for_good)
        station.task = None
        task.deaths += 1
        left = self._unsettled(task)
        for number in left:
            self._members[number].restarts += 1
        pause = min(_LONGEST_PAUSE_S, self._settings.backoff_s * 2.0 ** (task.deaths - 1))
        halve = task.deaths > 1 and len(left) > 1
        then = "in two halves" if halve else "from its last checkpoint"
        self._screen.line(f"{task.pack.name}: {why}; it starts again {then} in {pause:g} s", "yellow")
        self._tell_last_words(station, words)
        task.not_before = time.monotonic() + pause
        self._again(task, left, halve=halve)

    def _again(self, task: Task, left: Sequence[int], *, halve: bool) -> None:
        """Put the jobs that are left back into the queue, before all others."""
        self._screen.over(task.pack)
        for number in left:
            self._members[number].resume = has_checkpoint(self._members[number].record.dir)
        middle = (len(left) + 1) // 2
        parts = [("a", left[:middle]), ("b", left[middle:])] if halve else [("", left)]
        tasks = []
        for suffix, jobs in parts:
            name = task.pack.name + suffix
            rows = sum(self._members[number].record.config.data.batch_size for number in jobs)
            pack = Pack(name=name, jobs=tuple(jobs), rows=rows)
            spool = task.spool.with_name(f"{name}.jsonl") if suffix else task.spool
            tasks.append(Task(pack=pack, spool=spool, deaths=task.deaths, not_before=task.not_before, closed=True))
            self._journal.write("pack", pack=name, jobs=list(jobs), rows=rows)
        self._waiting.put_first(tasks)

    def _fail(self, station: _Station, why: str, words: str = "") -> None:
        """The station is done with its task; jobs without an end get one."""
        task, station.task = station.task, None
        if task is None:
            return
        left = self._unsettled(task)
        self._end_jobs(left, why)
        self._screen.over(task.pack)
        if left and not self._interrupts.asked:
            self._tell_last_words(station, words)

    def _end_jobs(self, numbers: Sequence[int], why: str) -> None:
        for number in numbers:
            if self._interrupts.asked:
                self._settle(self._members[number], "KILLED", error="interrupted")
            else:
                self._settle(self._members[number], "FAILED", error=why)

    def _tell_last_words(self, station: _Station, words: str) -> None:
        if station.worker is not None:
            self._screen.last_words(words, station.worker.log)

    def _heed(self) -> None:
        """Answer what is asked: an interrupt stops, the second kills, and so does a stop that takes too long."""
        for job in self._control.stops():
            if job is None:
                self._interrupts.ask()
            elif job in self._members:
                self._stop_job(self._members[job])
        if not self._interrupts.asked:
            return
        if self._interrupts.hung_up:
            self._screen.mute()
        workers = [station.worker for station in self._stations if station.worker is not None and station.task]
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._journal.write("interrupted")
            self._screen.phase("stopping: saving checkpoints (once more Ctrl-C ends at once and loses the last steps)")
            for worker in workers:
                worker.stop()
        if self._interrupts.insisted or self._interrupts.waited_s() > _STOP_S:
            for worker in workers:
                worker.kill()

    def _stop_job(self, member: Member) -> None:
        if member.ended:
            return
        number = member.record.index
        self._journal.write("asked", job=number, to="stop")
        for station in self._stations:
            if station.task and number in station.task.pack.jobs and station.worker is not None:
                station.worker.stop(number)
                return
        self._settle(member, "KILLED", error="stopped before it started")

    def _dismiss(self) -> None:
        for station in self._stations:
            worker = station.worker
            if worker is not None and worker.code is None and station.task:
                worker.stop()
            if worker is not None and self._interrupts.insisted:
                worker.kill()
            self._part(station)
