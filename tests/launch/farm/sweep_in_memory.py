"""A sweep that is supervised in this process: jobs by their configurations, workers in memory, a clock of its own."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from omegaconf import OmegaConf

from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.news import News
from lora_foundry.launch.farm.remaining import Remaining
from lora_foundry.launch.farm.stopping import Interrupts
from lora_foundry.launch.farm.supervise import Supervisor
from lora_foundry.launch.farm.waiting import Task
from lora_foundry.launch.machines.sharing import Sharing
from lora_foundry.launch.plan.clock import Clock as PlanClock
from lora_foundry.launch.plan.clock import NoPace
from lora_foundry.launch.plan.packing import Fits, PackPlan
from lora_foundry.launch.plan.sizes import Sizes
from lora_foundry.launch.records.folders import add_jobs, create_sweep
from lora_foundry.launch.records.journal import Journal, read_journal
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.state import JobState, SweepState
from lora_foundry.launch.screen.live import PatientConsole, Screen
from lora_foundry.wire.journal import JournalLine, WorkerLine
from tests.launch.jobs import live
from tests.launch.memory_engine import Clock, MemoryEngine

J = TypeVar("J", bound=JournalLine)


class Sweeps(Protocol):
    """The ``sweep`` fixture."""

    def __call__(self, *packs: Sequence[int | JobConfig], **settings: Any) -> SweepInMemory: ...


class SweepInMemory:
    """Packs of jobs as they are given; everything that supervision made of them can be asked for afterwards.

    Args:
        folder: An empty one, which becomes the sweep's.
        clock: Of the farm.
        packs: Configurations of each pack's jobs, which are numbered through.
        slots: How many workers at a time.
        fits: What is within the memory of a slot; everything where nothing is said.
        unstartable: How many starts of a worker fail.
        queues: See :class:`~tests.launch.memory_engine.MemoryEngine`.
        refused: See there.
        blocking: See there.
        settings: Of the launcher.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *packs: Sequence[JobConfig],
        slots: int = 1,
        fits: Fits = lambda _: True,
        unstartable: int = 0,
        queues: Sequence[float] = (),
        refused: Mapping[str, str] | None = None,
        blocking: Callable[[], object] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.interrupts = Interrupts()
        self.jobs: dict[int, LiveJob] = {}
        self.state = SweepState()
        self._fits = fits
        self._settings = Settings(**settings)
        self._said = io.StringIO()
        self._watched: list[tuple[Callable[[], object], Callable[[], None]]] = []
        (folder / "spool").mkdir(parents=True)
        self.tasks = [self._task(f"pack-{place}", configs) for place, configs in enumerate(packs)]
        configs = {member.record.dir: member.record.config for member in self.jobs.values()}
        self.engine = MemoryEngine(
            clock,
            slots=slots,
            configs=configs,
            unstartable=unstartable,
            queues=queues,
            refused=refused,
            blocking=blocking,
        )
        clock.watch = self._look

    def recorded(self) -> SweepInMemory:
        """With ``sweep.json`` and stored configurations, as who resumes it or shows it reads them."""
        jobs = [member.record for member in self.jobs.values()]
        for one in jobs:
            stored = one.dir / ".hydra" / "config.yaml"
            stored.parent.mkdir()
            OmegaConf.save(OmegaConf.create(dataclasses.asdict(one.config)), stored)
        record = add_jobs(self.folder, create_sweep(self.folder, "20260102-030405-abcdef"), jobs)
        for stored in record.jobs:
            self.jobs[stored.job].now = JobState.of(stored)
        return self

    def _task(self, name: str, configs: Sequence[JobConfig]) -> Task:
        first = len(self.jobs)
        for number, config in enumerate(configs, start=first):
            folder = self.folder / str(number)
            folder.mkdir()
            self.jobs[number] = live(number, config, folder=folder, pack=name)
        jobs, rows = tuple(range(first, len(self.jobs))), sum(config.data.batch_size for config in configs)
        return Task(pack=PackPlan(name=name, jobs=jobs, rows=rows), spool=self.folder / "spool" / f"{name}.jsonl")

    def when(self, holds: Callable[[], object], then: Callable[[], None]) -> None:
        """Do ``then`` once, as soon as ``holds()`` after a tick."""
        self._watched.append((holds, then))

    def _look(self) -> None:
        due = [one for one in self._watched if one[0]()]
        self._watched = [one for one in self._watched if one not in due]
        for _, then in due:
            then()

    def train(self) -> SweepInMemory:
        """Supervise it to its end."""
        settings = self._settings
        slots = self.engine.slots("cpu")
        with (
            Journal(self.folder) as journal,
            Screen(PatientConsole(file=self._said, width=200), self.jobs) as screen,
            Sharing(self.folder, lambda: slots, lambda _: None, share=True) as sharing,
        ):
            journal.state = self.state = SweepState(jobs={number: one.now for number, one in self.jobs.items()})
            self.supervisor = Supervisor(
                sweep_dir=self.folder,
                engine=self.engine,
                slots=slots,
                settings=settings,
                cwd=self.folder,
                jobs=self.jobs,
                sizes=Sizes(settings.pack_size, settings.least_gain),
                fits=self._fits,
                journal=journal,
                screen=screen,
                interrupts=self.interrupts,
                sharing=sharing,
                remaining=Remaining(PlanClock(NoPace(), slots[0], trace=False), self.jobs),
                plan=lambda _: [],
                news=News(),
            )
            self.supervisor.add(self.tasks)
            self.supervisor.close()
            while self.supervisor.busy:
                if not self.supervisor.tick():
                    self.clock.sleep(0.02)
            self.supervisor.leave()
        return self

    def states(self) -> list[str]:
        """Of every job, in order."""
        return [member.state for _, member in sorted(self.jobs.items())]

    def journal(self, kind: type[J]) -> list[J]:
        """Its lines of one kind."""
        return [line for line in read_journal(self.folder) if isinstance(line, kind)]

    def workers(self) -> list[str]:
        """What became of workers, in order: started, ended, stalled, left."""
        return [line.state for line in self.journal(WorkerLine)]

    def sent(self, command: str = "pack") -> list[tuple[str, list[int]]]:
        """PackPlan and jobs of each command of a kind, in order."""
        lines = [json.loads(line) for line in (self.folder / "commands.jsonl").read_text().splitlines()]
        found = [line for line in lines if line["cmd"] == command]
        return [(line["pack"], [job["job"] for job in line["jobs"]]) for line in found]

    @property
    def said(self) -> str:
        """All that the user was told."""
        return self._said.getvalue()
