"""What runs a plan: it takes jobs while it runs, tells how they do, and ends when it is closed and empty.

A grid is the closed case: all is offered, then it is closed, then it trains.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from lora_foundry.config.launcher import Settings
from lora_foundry.config.length import rows_of
from lora_foundry.config.schema import JobConfig
from lora_foundry.config.warned import told
from lora_foundry.launch.farm.book import Book, records_of
from lora_foundry.launch.farm.ending import Ending
from lora_foundry.launch.farm.ground import Ground
from lora_foundry.launch.farm.idling import Idling
from lora_foundry.launch.farm.news import Listener, News, Reopened
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.farm.prepared import kept_precisions
from lora_foundry.launch.farm.prospects import Prospects
from lora_foundry.launch.farm.remaining import Remaining
from lora_foundry.launch.farm.saying import Said, Telling, noted
from lora_foundry.launch.farm.stopping import Interrupts
from lora_foundry.launch.farm.supervise import Supervisor
from lora_foundry.launch.farm.waiting import Task
from lora_foundry.launch.farm.writer import SafeWriter
from lora_foundry.launch.machines.sharing import Sharing, check_locks
from lora_foundry.launch.plan.clock import BASIS, in_words
from lora_foundry.launch.plan.packing import PackPlan, Plan
from lora_foundry.launch.plan.sizes import Sizes
from lora_foundry.launch.points.names import Names
from lora_foundry.launch.points.point import Point, on_device
from lora_foundry.launch.records.folders import refuse_taken
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.reading import measured
from lora_foundry.launch.records.resume import Resumed
from lora_foundry.launch.records.state import JobState
from lora_foundry.launch.records.stored_jobs import has_checkpoint, read_stored_config
from lora_foundry.launch.screen.live import PatientConsole, Screen
from lora_foundry.tracking.records import JobRecord
from lora_foundry.wire.events import MetricsEvent
from lora_foundry.wire.journal import EndedLine, PackLine, ResumedLine, WaitingLine
from lora_foundry.wire.outcomes import JobOutcome

_TICK_S = 0.02  # a pack that has ended leaves its slot idle for one of these


class Farm:
    """One sweep's jobs, from the first offer to the table at the end.

    :meth:`offer`, :meth:`prune` and :meth:`close` may be called by any thread, and by the listener; :meth:`drain` and
    :meth:`train` work in the thread that calls them, the main one where signals are to be heeded.

    Args:
        sweep_dir: The sweep's folder; it is made by the first offer.
        settings: What the launcher's configuration says.
        outside: What other rooms do for it.
        sweep_id: The id of a new sweep.
        naming: Names its jobs.
        listener: Is told what happens.

    Attributes:
        results: Of every job of the sweep, once it has ended.
        prospects: What may be expected of jobs before they are offered.
    """

    def __init__(
        self,
        sweep_dir: Path,
        settings: Settings,
        outside: Outside,
        *,
        sweep_id: str = "",
        naming: Names | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.results: list[JobOutcome] = []
        self._folder = sweep_dir.absolute()
        self._settings = settings
        self._outside = outside
        self._sweep_id = sweep_id
        self._naming = naming or Names()
        self._cwd = Path.cwd()
        self._jobs: dict[int, LiveJob] = {}
        self._tasks: list[Task] = []
        self._packs = self._offers = 0
        self._closed = self._over = False
        self._book: Book | None = None
        self.prospects = Prospects(settings, outside)
        self._supervisor: Supervisor | None = None
        self._writer: SafeWriter | None = None
        self._idling: Idling | None = None
        self._devices = ExitStack()
        self._offering = threading.Lock()
        self._lock = threading.RLock()
        self._interrupts = Interrupts()
        self._screen = Screen(PatientConsole(highlight=False), self._jobs)
        self._telling = Telling(self._screen)
        self._news = News(listener or outside.watch(settings, self), self.outcome)
        self._earlier: list[MetricsEvent] = []

    @classmethod
    def going_on(
        cls, resumed: Resumed, settings: Settings, outside: Outside, *, search: Reopened | None = None
    ) -> Farm:
        """What is left of a sweep, closed where whoever offered its jobs is gone.

        Args:
            resumed: What is left.
            settings: What the launcher's configuration says.
            outside: What other rooms do for it.
            search: Who offers more; null is nobody.

        Raises:
            SweepError: When another process works in it, or the devices that were asked for are not there.
        """
        farm = cls(
            resumed.sweep_dir,
            settings,
            outside,
            naming=None if search is None else search.naming,
            listener=None if search is None else search.listener,
        )
        farm._cwd = resumed.cwd
        configs = [job.config for job in resumed.jobs]
        if configs:
            farm.prospects.grounded(configs, jobs=len(resumed.sweep.jobs))
        check_locks(share=settings.share)
        book = farm._book = Book.reopen(farm._folder, resumed.sweep)
        if resumed.longer is not None:
            book.lengthen(resumed.jobs[0], resumed.longer)
        farm._jobs |= {job.index: book.live(job, resume=has_checkpoint(job.dir)) for job in resumed.jobs}
        for (name, jobs), spool in zip(resumed.packs, resumed.spools(), strict=True):
            for job in jobs:
                book.journal.write(ResumedLine(job=job, spool=spool.name))
            rows = rows_of(farm._jobs[job].record.config for job in jobs)
            if any(book.journal.state.jobs[job].pack != name for job in jobs):
                book.journal.write(PackLine(pack=name, jobs=jobs, rows=rows))
            farm._tasks.append(Task(pack=PackPlan(name=name, jobs=jobs, rows=rows), spool=spool))
        said, ground = Said(notes=[*resumed.notes]), farm.prospects.ground
        if ground is not None:
            said.notes += kept_precisions(resumed.jobs, ground.precision)
            said.warnings += ground.left_out
        farm._telling.add(said)
        farm._packs = book.next_pack()
        farm._closed = search is None
        if farm._news.heard:
            farm._earlier = measured(resumed.sweep_dir)
        return farm

    @classmethod
    def ended(cls, book: Book, jobs: Sequence[JobRecord], outside: Outside, note: str) -> Farm:
        """A sweep whose jobs have all ended; what is left to do is its end."""
        farm = cls(book.folder, Settings(), outside)
        farm._book, farm._closed = book, True
        farm._jobs |= {job.index: book.live(job) for job in jobs}
        farm._telling.add(Said(notes=[note]))
        return farm

    @property
    def interrupted(self) -> bool:
        """Whether somebody asked for its end."""
        return self._interrupts.asked

    def offer(self, points: Sequence[Point], notes: Sequence[str] = ()) -> list[int]:
        """Jobs come: they are planned, named, written and journalled, and wait for a slot or a place.

        Args:
            points: Checked points, in order.
            notes: What the user is told first.

        Returns:
            Their numbers.

        Raises:
            SweepError: When they cannot be taken; nothing of them is made then.
        """
        with self._offering:
            if self._closed:
                raise RuntimeError("a closed farm takes nothing more")
            refuse_taken(self._folder, points, begun=self._book is not None)
            ground = self.prospects.grounded([one.config for one in points])
            points = on_device(points, ground.precision)
            configs = {point.index: point.config for point in points}
            plan, basis = ground.plan(configs)
            check_locks(share=self._settings.share)
            named = self._naming.name(list(configs.values()), [point.overrides() for point in points])
            plan = self._numbered(plan)
            book = self._book or Book.begin(self._folder, self._sweep_id)
            try:
                jobs = book.enter(points, records_of(points, named.names, plan))
            except BaseException:
                if self._book is None:
                    book.journal.close()
                raise
            said = Said(notes=[*notes, *noted(points), *named.notes, *plan.reasons])
            said.warnings = told({name: point.warnings for name, point in zip(named.names, points, strict=True)})
            said.warnings += ground.left_out if self._book is None else ()
            self._book = book
            if basis == "measured":
                said.notes.append(f"predicted to take {in_words(plan.ends_s)}, {BASIS[basis]}")
            with self._lock:
                self._take(book, jobs, plan, said)
        return list(configs)

    def _take(self, book: Book, jobs: Sequence[LiveJob], plan: Plan, said: Said) -> None:
        self._jobs |= {job.record.index: job for job in jobs}
        book.tell((job.record.index for job in jobs), plan.packs, plan.seconds)
        tasks = self._waiting(plan)
        if self._writer is not None:
            self._writer.add([job.record for job in jobs])
        if self._supervisor is None:
            self._tasks += tasks
        else:
            self._supervisor.add(tasks)
        self._telling.add(said, came=len(jobs))

    def prune(self, job: int) -> None:
        """End a job early: going on with it is not worth its place, which the next takes.

        It ends after the step under way and is PRUNED. Its last checkpoint and what was exported along the way stay;
        nothing more is drawn, scored or exported.
        """
        with self._lock:
            if not self._over:
                self._begun().prune(job)

    @property
    def takes(self) -> bool:
        """Whether jobs may be offered."""
        return not self._closed

    @property
    def jobs(self) -> Mapping[int, JobState]:
        """All jobs of the sweep as they are, by number."""
        return {} if self._book is None else self._book.journal.state.jobs

    def say(self, line: str) -> None:
        """Tell people something of what was offered."""
        self._telling.add(Said(warnings=[line]))

    @property
    def waiting(self) -> int:
        """Jobs that wait for a place."""
        with self._lock:
            return sum(job.state == "PENDING" for job in self._jobs.values())

    def config_of(self, job: int) -> JobConfig:
        """The configuration of a job that was offered, to this farm or to one before it.

        Raises:
            DamagedJobError: When it cannot be read again.
        """
        if job in self._jobs:
            return self._jobs[job].record.config
        return read_stored_config(self.outcome(job).dir)

    def close(self) -> None:
        """No more jobs come; asking again changes nothing."""
        with self._lock:
            self._closed = True
            if self._supervisor is not None:
                self._supervisor.close()

    def drain(self) -> None:
        """Train until everything that was offered has its end; workers stay warm for what comes next."""
        with self._leaving_nobody():
            self._stop_idling()
            with self._interrupts, self._screen:
                self._work(lambda: self._begun().busy)
                if self._interrupts.asked:
                    self._leave()
        if not self._interrupts.asked:
            self._idling = Idling(self._tick)

    def train(self) -> list[JobOutcome]:
        """Train until the farm is closed and empty, then end it: results, runs, picture and table.

        Returns:
            How the jobs that it had ended.
        """
        book = self._book
        if book is None or self._over:
            return []
        with self._leaving_nobody():
            self._stop_idling()
            with self._interrupts:
                with self._screen:
                    if self.prospects.ground is not None:
                        self._work(lambda: self._begun().busy or not (self._closed or self._interrupts.asked))
                        self._leave()
                    self._interrupts.finishing = True
                    ending = self._end(book)
                if not self._interrupts.hung_up:
                    ending.say()
            book.journal.write(EndedLine(exit_code=ending.code))
            self._over = True
        book.journal.close()
        return [result for result in self.results if result.job in self._jobs]

    def stop(self) -> None:
        """Ask for a clean end, as Ctrl-C does."""
        self._interrupts.ask()

    def outcome(self, job: int) -> JobOutcome:
        """How a job ended, or stands."""
        if self._book is None:
            raise RuntimeError("nothing was offered")
        return self._book.outcome(job)

    @contextmanager
    def _leaving_nobody(self) -> Iterator[None]:
        """Whatever goes wrong inside, no worker is left behind, and the sweep's folder is free."""
        try:
            yield
        except BaseException:
            self._over = True
            try:
                self._leave()
            finally:
                if self._book is not None:
                    self._book.journal.close()
            raise

    def _work(self, goes_on: Callable[[], bool]) -> None:
        """Look again and again."""
        self._greet()
        self.recall()
        while goes_on():
            if not self._tick():
                time.sleep(_TICK_S)

    def recall(self) -> None:
        """Tell the listener what was measured, and which jobs ended, before this farm went on; once."""
        earlier, self._earlier = self._earlier, []
        for event in earlier:
            self._news.measured(event)
        if earlier and self._book is not None:
            for number, job in self._book.journal.state.jobs.items():
                if job.ended and number not in self._jobs:
                    self._news.ended(number)
            self._news.deliver()

    def _tick(self) -> bool:
        with self._lock:
            moved = self._begun().tick()
        self._news.deliver()
        return moved

    def _leave(self) -> None:
        """Workers go, and so do the devices; jobs without an end get one."""
        with self._lock:
            self._closed = True
            try:
                if self._supervisor is not None:
                    self._supervisor.leave()
            finally:
                self._devices.close()
        self._news.deliver()

    def _end(self, book: Book) -> Ending:
        self._greet()
        ending = Ending(book, self._jobs, self._recording(book), self._screen)
        self.results = ending.results
        ending.make(self._outside, report=self._settings.report, interrupted=self._interrupts.asked)
        return ending

    def _recording(self, book: Book) -> SafeWriter:
        """The one writer to MLflow."""
        if self._writer is None:
            jobs, record = [job.record for job in self._jobs.values()], book.record
            writer = self._writer = SafeWriter(self._folder, jobs, record.id, record.command)
            self._screen.watch(lambda: writer.problem)
            writer.start()
        return self._writer

    def _begun(self) -> Supervisor:
        """Who starts workers, feeds, watches and ends them; made when there is something to train."""
        if self._supervisor is None:
            if self._book is None or self.prospects.ground is None:
                raise RuntimeError("nothing was offered")
            self._supervisor = self._supervising(self._book, self.prospects.ground)
            self._supervisor.add(self._tasks)
            if self._closed:
                self._supervisor.close()
        return self._supervisor

    def _supervising(self, book: Book, ground: Ground) -> Supervisor:
        self._recording(book)
        share, slots = ground.settings.share, ground.budget.slots
        sharing = self._devices.enter_context(Sharing(self._folder, ground.slots_now, self._say_waiting, share=share))
        return Supervisor(
            sweep_dir=self._folder,
            engine=ground.engine,
            slots=slots,
            settings=ground.settings,
            cwd=self._cwd,
            jobs=self._jobs,
            sizes=Sizes(ground.settings.pack_size, ground.settings.least_gain, book.journal.state.gains.values()),
            fits=lambda configs: ground.budget.on(sharing.known(slots)).fits(configs),
            journal=book.journal,
            screen=self._screen,
            interrupts=self._interrupts,
            sharing=sharing,
            remaining=Remaining(ground.budget.quick_clock(), self._jobs),
            plan=lambda configs: self._replanned(book, ground, configs),
            news=self._news,
        )

    def _replanned(self, book: Book, ground: Ground, configs: Mapping[int, JobConfig]) -> list[Task]:
        """Packs of jobs that were offered one after another and wait together now."""
        plan = self._numbered(ground.plan(configs)[0])
        book.tell_packs(plan.packs, plan.seconds)
        return self._waiting(plan)

    def _numbered(self, plan: Plan) -> Plan:
        """The packs with numbers of the whole sweep; plans are made at any time, by any thread."""
        with self._lock:
            first = self._packs
            self._packs += len(plan.packs)
        packs = [replace(pack, name=f"pack-{first + place}") for place, pack in enumerate(plan.packs)]
        return replace(plan, packs=tuple(packs))

    def _waiting(self, plan: Plan) -> list[Task]:
        self._offers += 1
        spools = self._folder / "spool"
        return [Task(pack=pack, spool=spools / f"{pack.name}.jsonl", offer=self._offers) for pack in plan.packs]

    def _stop_idling(self) -> None:
        idling, self._idling = self._idling, None
        if idling is not None:
            idling.end()

    def _greet(self) -> None:
        self._telling.greet(len(self._jobs), self._folder)

    def _say_waiting(self, lines: Sequence[str]) -> None:
        """Other sweeps have devices that this one could train on, or no longer."""
        if self._book is not None:
            self._book.journal.write(WaitingLine(lines=tuple(lines)))
        for line in lines:
            self._screen.line(line, "yellow")
        if lines and all(job.state == "PENDING" for job in self._jobs.values()):
            self._screen.phase("waiting for a device")
