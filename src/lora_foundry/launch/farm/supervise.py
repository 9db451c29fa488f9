"""A sweep's packs on its slots: workers are started, fed, watched, started again and ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lora_foundry.config.launcher import Settings
from lora_foundry.launch.farm.composition import Composition
from lora_foundry.launch.farm.news import News
from lora_foundry.launch.farm.outlook import Outlook
from lora_foundry.launch.farm.remaining import Remaining
from lora_foundry.launch.farm.stations import Station
from lora_foundry.launch.farm.stopping import STOP_S, Interrupts, Stops
from lora_foundry.launch.farm.waiting import Plan, Task
from lora_foundry.launch.machines.engine import Engine, Slot, Worker
from lora_foundry.launch.machines.sharing import Sharing
from lora_foundry.launch.machines.starting import Start
from lora_foundry.launch.plan.packing import Fits
from lora_foundry.launch.plan.sizes import Sizes
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.screen.live import Screen
from lora_foundry.wire.commands import JoinCommand, PackCommand
from lora_foundry.wire.events import (
    WORKER_EVENTS,
    Alive,
    Event,
    GainFound,
    HandedBack,
    NoDevice,
    PackBroken,
    PackEnded,
    Refused,
)
from lora_foundry.wire.journal import BeganLine, WorkerLine

_LEAVE_S = 15.0  # patience with an idle worker that is to go
_IDLE_S = 5.0  # a worker of an open farm that has nothing to do keeps its device from other sweeps for so long


class Supervisor:
    """Runs a sweep's packs and keeps its jobs up to date; never raises for one job.

    A pack whose worker died or stalled is started again from its checkpoints, after a pause. When that happens
    twice it is split, so that a job that kills workers ends up alone; a job is FAILED when its restarts are used up.

    Args:
        sweep_dir: The sweep's folder.
        engine: Starts workers.
        slots: Where.
        settings: How patient to be.
        cwd: Folder that workers run in.
        jobs: By number; states are written into them.
        sizes: How many train together.
        fits: Whether jobs stay within the memory of a slot together.
        journal: The sweep's open journal.
        screen: Where the user is told.
        interrupts: Entered by the caller.
        sharing: This sweep's turns on the devices.
        remaining: Says how long it takes yet.
        plan: Packs jobs that were offered at different times together.
        news: Takes what happens, for whoever offered the jobs.
    """

    def __init__(  # noqa: PLR0913  # what a sweep is made of
        self,
        *,
        sweep_dir: Path,
        engine: Engine,
        slots: Sequence[Slot],
        settings: Settings,
        cwd: Path,
        jobs: dict[int, LiveJob],
        sizes: Sizes,
        fits: Fits,
        journal: Journal,
        screen: Screen,
        interrupts: Interrupts,
        sharing: Sharing,
        remaining: Remaining,
        plan: Plan,
        news: News,
    ) -> None:
        self._sweep_dir = sweep_dir
        self._engine = engine
        self._stations = [Station(slot=slot) for slot in slots]
        self._settings = settings
        self._cwd = cwd
        self._jobs = jobs
        self._journal = journal
        self._screen = screen
        self._interrupts = interrupts
        self._sharing = sharing
        self._outlook = Outlook(remaining, journal, screen)
        self._packs = Composition(jobs, sizes, fits, journal, screen, news)
        self._stops = Stops(
            sweep_dir,
            stations=self._stations,
            jobs=jobs,
            ends=self._packs.ends,
            interrupts=interrupts,
            journal=journal,
            screen=screen,
        )
        self._plan = plan
        self._open = True

    @property
    def busy(self) -> bool:
        """Whether something trains, or waits and may begin."""
        return any(station.task for station in self._stations) or (
            bool(self._packs.waiting) and not self._interrupts.asked
        )

    def add(self, tasks: Sequence[Task]) -> None:
        """More packs, behind those that wait; their jobs are known by now."""
        self._packs.add(tasks)

    def close(self) -> None:
        """No more come: whatever nothing is left for is given back."""
        self._open = False

    def tick(self) -> bool:
        """Look at everything once; true when something moved."""
        moved = [self._attend(station) for station in self._stations]
        if self._packs.waiting and all(station.refused for station in self._stations):
            self._strand()
        self._sharing.say()
        self._stops.heed()
        self._outlook.look(self._stations, self._packs.waiting.packs())
        self._screen.refresh()
        return any(moved)

    def leave(self) -> None:
        """Let every worker go; jobs without an end are KILLED, as only an interrupt leaves them."""
        queued = self._sharing.waits
        for station in self._stations:
            self._stops.hurry(station)
            self._part(station)
        self._stops.settle(queued=queued)

    def _attend(self, station: Station) -> bool:
        """One look at a station; true when something moved."""
        if station.task is not None:
            return self._follow(station, station.task)
        if station.refused is not None or not self._placed(station):
            return False
        self._packs.gather(self._plan)
        try:
            worker = self._worker(station)
        except OSError as error:
            station.task = self._packs.waiting.next()
            if station.task is not None:
                self._screen.pack(station.task.pack)
            self._fail(station, f"the worker could not be started: {error}")
            return True
        task = None if worker is None else self._packs.waiting.next()
        if worker is None or task is None:
            return False
        self._begin(station, worker, self._packs.narrowed(task))
        return True

    def _placed(self, station: Station) -> bool:
        """Whether the station has its device; one that nothing is left for is given back to other sweeps."""
        if self._interrupts.asked or not (self._packs.waiting or self._stays(station)):
            self._part(station)
            return False
        if not self._packs.waiting:
            return False
        station.idle_since = None
        if station.worker is None and station.start is None and not self._wants_more():
            return False
        slot = self._sharing.take(station.slot)
        station.slot = slot or station.slot
        return slot is not None

    def _stays(self, station: Station) -> bool:
        """Whether an idle worker stays warm, base and caches, for what may come; not for long where others wait."""
        if not self._open or station.worker is None or station.worker.code is not None:
            return False
        now = time.monotonic()
        station.idle_since = station.idle_since or now
        return now - station.idle_since < _IDLE_S or not self._sharing.wanted(station.slot)

    def _wants_more(self) -> bool:
        """Whether a pack may begin that no worker on its way is for; whichever is there first takes the first."""
        on_their_way = sum(station.start is not None for station in self._stations)
        return self._packs.waiting.due() > on_their_way

    def _part(self, station: Station) -> None:
        worker, station.worker = station.worker, None
        start, station.start = station.start, None
        if start is not None:
            start.give_up()
        if worker is not None:
            code = worker.leave(STOP_S if station.task else _LEAVE_S)
            self._journal.write(WorkerLine(state="left", pid=worker.pid, code=code))
        self._sharing.give_back(station.slot)

    def _begin(self, station: Station, worker: Worker, task: Task) -> None:
        self._screen.pack(task.pack)
        if station.fresh:
            self._screen.phase("starting the worker")
        station.fresh = False
        station.task, station.work, station.broken = task, None, None
        station.trained = frozenset(task.pack.jobs)
        task.places = len(task.pack.jobs)
        station.moved_at = time.monotonic()
        self._journal.write(BeganLine(pack=task.pack.name, slot=station.slot.name, jobs=task.pack.jobs))
        worker.run(self._packs.order(PackCommand, task, task.pack.jobs, station.slot.own))

    def _follow(self, station: Station, task: Task) -> bool:
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
            self._journal.write(WorkerLine(state="ended", pid=worker.pid, code=worker.code))
            self._died(station, task, worker.death())
        elif time.monotonic() - station.moved_at > self._settings.stall_s:
            self._stalled(station, task, worker)
        return bool(events)

    def _worker(self, station: Station) -> Worker | None:
        """The station's worker, warm or new; null while one is on its way.

        Raises:
            OSError: When it could not be started.
        """
        worker = station.worker
        if worker is not None and worker.code is not None:
            lost, station.worker = worker.starting, None
            worker.leave(0.0)
            if lost:
                raise OSError(worker.death())
            worker = None
        if worker is None:
            worker = station.worker = self._started(station)
        return None if worker is None or worker.starting else worker

    def _started(self, station: Station) -> Worker | None:
        """What the engine gave; null while it takes its time."""
        if station.start is None:
            slot = station.slot
            inherit = (self._journal.fileno(), *self._sharing.descriptors(slot))
            station.start = Start(lambda: self._engine.start(slot, self._sweep_dir, self._cwd, inherit))
            if not station.start.over:
                self._screen.phase(f"waiting for a worker on {slot.name}")
        if not station.start.over:
            return None
        start, station.start = station.start, None
        worker, station.fresh = start.worker(), True
        self._journal.write(WorkerLine(state="started", pid=worker.pid, slot=station.slot.name))
        return worker

    def _fill(self, station: Station, task: Task, worker: Worker) -> None:
        """Give places that became free to jobs that wait."""
        joining = [] if station.broken or self._interrupts.asked else self._packs.joining(task)
        if joining:
            self._journal.write(BeganLine(pack=task.pack.name, slot=station.slot.name, jobs=tuple(joining)))
            self._screen.joined(task.pack, joining)
            worker.join(self._packs.order(JoinCommand, task, joining, station.slot.own))

    def _take(self, station: Station, task: Task, event: Event) -> bool:
        """Fold one event; true when it ends the pack."""
        if isinstance(event, WORKER_EVENTS):
            return self._take_word(station, task, event)
        station.moved_at = time.monotonic()
        self._packs.fold(event, task.pack.name)
        return False

    def _take_word(self, station: Station, task: Task, event: Event) -> bool:
        """What a worker says of itself; true when the pack is over."""
        work = event.work if isinstance(event, Alive) else None
        if work is None or work != station.work:
            station.work, station.moved_at = work, time.monotonic()
        if isinstance(event, PackBroken):
            station.broken = event.error
        elif isinstance(event, GainFound):
            self._packs.learn(task, event)
        elif isinstance(event, HandedBack | Refused):
            self._packs.take_back(task, event)
        elif isinstance(event, PackEnded):
            station.trained = frozenset(event.jobs)
            return True
        elif isinstance(event, NoDevice):
            station.refused = event.reason
            return True
        return False

    def _ended(self, station: Station, task: Task) -> None:
        """The worker said that the pack is over, or that it cannot train it."""
        if station.refused is not None:
            self._turned_away(station, task, station.refused)
            return
        late = [number for number in self._packs.unsettled(task) if number not in station.trained]
        if late and station.broken is None and not self._interrupts.asked:
            self._packs.regroup(task, late)  # they came when the pack was over: the worker trains them next
            station.trained = frozenset(late)
            return
        left = self._packs.unsettled(task)
        if station.broken is not None and len(left) > 1 and not self._interrupts.asked:
            self._screen.line(f"{task.pack.name}: {station.broken}; it goes on in two halves", "yellow")
            station.task = None
            self._packs.again(task, left, halve=True)
            return
        self._fail(station, station.broken or "the worker ended the pack without a result for this job")

    def _turned_away(self, station: Station, task: Task, why: str) -> None:
        """The slot's device cannot be used: no worker is started there any more, and others train its pack."""
        told = any(other.refused == why for other in self._stations if other is not station)
        self._screen.line(f"{station.slot.name} cannot train: {'the same' if told else why}", "red")
        station.task = None
        self._packs.again(task, self._packs.unsettled(task), halve=False)
        self._part(station)

    def _strand(self) -> None:
        """No slot is left: what waits has an end that a resume goes on from, once the devices are mended."""
        why = next(station.refused for station in self._stations)
        waiting = [self._jobs[number] for pack in self._packs.waiting.packs() for number in pack]
        left = [job for job in waiting if not job.ended]
        jobs = "1 job waits" if len(left) == 1 else f"{len(left)} jobs wait"
        self._screen.line(f"no slot is left; {jobs} for a resume", "red")
        self._packs.ends.stranded(left, f"no device to train on: {why}")

    def _stalled(self, station: Station, task: Task, worker: Worker) -> None:
        if self._packs.has_no_disk(task, self._sweep_dir):
            station.moved_at = time.monotonic()
            return
        why = f"the worker did nothing for {self._settings.stall_s:g} s (hydra.launcher.stall_s) and was ended"
        self._journal.write(WorkerLine(state="stalled", pid=worker.pid, slot=station.slot.name))
        worker.kill()
        worker.leave(_LEAVE_S)
        self._died(station, task, why)

    def _died(self, station: Station, task: Task, why: str) -> None:
        """The pack's worker is gone: once more from the checkpoints, split at the second time, not for ever."""
        words = station.worker.last_words() if station.worker is not None else ""
        left = self._packs.unsettled(task)
        spent = [number for number in left if self._jobs[number].restarts >= self._settings.max_restarts]
        most = self._settings.max_restarts
        for_good = f"{why}, after {most} restarts (hydra.launcher.max_restarts)" if most else why
        if self._interrupts.asked or len(spent) == len(left):
            self._fail(station, for_good, words)
            return
        self._packs.ends.lost([self._jobs[number] for number in spent], for_good, interrupted=False)
        station.task = None
        task.deaths += 1
        left = self._packs.unsettled(task)
        self._packs.restarted(task, left)
        pause = self._settings.pause_s(task.deaths)
        halve = task.deaths > 1 and len(left) > 1
        then = "in two halves" if halve else "from its last checkpoint"
        self._screen.line(f"{task.pack.name}: {why}; it starts again {then} in {pause:g} s", "yellow")
        station.say_last_words(self._screen, words)
        task.not_before = time.monotonic() + pause
        self._packs.again(task, left, halve=halve)

    def _fail(self, station: Station, why: str, words: str = "") -> None:
        """The station is done with its task; jobs without an end get one."""
        task, station.task = station.task, None
        if task is None:
            return
        left = self._packs.unsettled(task)
        self._packs.ends.lost([self._jobs[number] for number in left], why, interrupted=self._interrupts.asked)
        self._screen.over(task.pack)
        if left and not self._interrupts.asked:
            station.say_last_words(self._screen, words)

    def prune(self, number: int) -> None:
        """End a job after the step under way, PRUNED."""
        self._stops.prune(self._jobs[number])
