"""An open farm in this process: workers in memory, a clock of its own, points without Hydra."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from omegaconf import OmegaConf

from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.news import Listener
from lora_foundry.launch.farm.outside import Outside
from lora_foundry.launch.points.names import Names
from lora_foundry.launch.points.point import Point
from lora_foundry.launch.records.journal import read_journal
from lora_foundry.wire.journal import JournalLine, WorkerLine
from lora_foundry.wire.outcomes import JobOutcome
from tests.launch.memory_engine import Clock, MemoryEngine

J = TypeVar("J", bound=JournalLine)


class Farms(Protocol):
    """The ``farm`` fixture."""

    def __call__(self, *, slots: int = ..., **settings: Any) -> FarmInMemory: ...


class FarmInMemory:
    """A farm, and what became of it. Its picture is ``picture.png``.

    Args:
        folder: The sweep's; it is not there yet.
        clock: Of the farm.
        engine: Of its workers; null where they are processes.
        configs: Folder of a job to its configuration, which the engine reads.
        settings: Of the launcher.

    Attributes:
        told: What was measured of each job: numbers of samples.
        ended: How jobs ended, in that order.
        listening: Is called with each end, when a test has set it.
        reporting: Writes the page.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        engine: MemoryEngine | None,
        configs: dict[Path, JobConfig],
        settings: Settings,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self._engine = engine
        self.told: dict[int, list[int]] = {}
        self.ended: list[JobOutcome] = []
        self.listening: Callable[[JobOutcome], None] = lambda _: None
        self.measuring: Callable[[int, int], None] = lambda *_: None
        self._configs = configs
        self.settings = settings
        self._watched: list[tuple[Callable[[], object], Callable[[], None]]] = []
        self._next = 0
        naming, listener = Names(["seed"]), _Ears(self)
        self.reporting: Callable[[Path], Path] = lambda folder: folder / "report.html"
        outside = Outside(finish=_picture, report=self._report)
        self.farm = Farm(folder, settings, outside, sweep_id="20260102-030405-abcdef", naming=naming, listener=listener)
        clock.watch = self._look

    def _report(self, folder: Path) -> Path:
        return self.reporting(folder)

    @property
    def engine(self) -> MemoryEngine:
        assert self._engine is not None
        return self._engine

    def offer(self, *configs: JobConfig) -> list[int]:
        """Offer jobs together; their numbers."""
        points = self.points(*configs)
        self._next += len(configs)
        return self.farm.offer(points)

    def points(self, *configs: JobConfig) -> list[Point]:
        """What would be offered."""
        return [self._point(number, config) for number, config in enumerate(configs, start=self._next)]

    def _point(self, number: int, config: JobConfig) -> Point:
        folder = self.folder / str(number)
        self._configs[folder] = config
        return Point(
            index=number,
            words=(f"seed={config.seed}",),
            config=config,
            values=json.loads(json.dumps(dataclasses.asdict(config))),
            hydra_cfg=OmegaConf.create({"hydra": {"launcher": {"share": True}}}),
            dir=folder,
        )

    def when(self, holds: Callable[[], object], then: Callable[[], None]) -> None:
        """Do ``then`` once, as soon as ``holds()`` after a tick."""
        self._watched.append((holds, then))

    def _look(self) -> None:
        due = [one for one in self._watched if one[0]()]
        self._watched = [one for one in self._watched if one not in due]
        for _, then in due:
            then()

    def states(self) -> list[str]:
        """Of every job, in order."""
        return [self.farm.outcome(number).state for number in range(self._next)]

    def journal(self, kind: type[J]) -> list[J]:
        """Its lines of one kind."""
        return [line for line in read_journal(self.folder) if isinstance(line, kind)]

    def workers(self) -> list[str]:
        """What became of workers, in order."""
        return [line.state for line in self.journal(WorkerLine)]

    def sent(self, command: str = "pack") -> list[tuple[str, list[int]]]:
        """Pack and jobs of each command of a kind, in order."""
        lines = [json.loads(line) for line in (self.folder / "commands.jsonl").read_text().splitlines()]
        found = [line for line in lines if line["cmd"] == command]
        return [(line["pack"], [job["job"] for job in line["jobs"]]) for line in found]


class _Ears(Listener):
    def __init__(self, made: FarmInMemory) -> None:
        self._made = made

    def tell(self, job: int, samples: int, values: Mapping[str, object]) -> None:
        assert values
        self._made.told.setdefault(job, []).append(samples)
        self._made.measuring(job, samples)

    def ended(self, outcome: JobOutcome) -> None:
        self._made.ended.append(outcome)
        self._made.listening(outcome)


def _picture(folder: Path, outcomes: list[JobOutcome]) -> Path | None:
    return folder / "picture.png" if any(one.state == "FINISHED" for one in outcomes) else None
