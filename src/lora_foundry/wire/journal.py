"""The journal's lines: what happened to the jobs of a sweep, as its launcher saw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.forks import Lineage
from lora_foundry.wire.lines import Kinds, Loose, TimedLine
from lora_foundry.wire.states import State
from lora_foundry.wire.summary import Summary


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalLine(TimedLine):
    """A line of the journal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadLine(JournalLine):
    """The first line.

    Attributes:
        format: The number of the file's format.
    """

    tag: ClassVar[str] = "journal"
    format: object


@dataclass(frozen=True, kw_only=True, slots=True)
class LauncherLine(JournalLine):
    """A launcher took the sweep over.

    Attributes:
        host: Name of its machine.
        pid: Its process there.
        started: When that began (Unix seconds).
    """

    tag: ClassVar[str] = "launcher"
    host: str
    pid: int
    started: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepLine(JournalLine):
    """Jobs came to the sweep.

    Attributes:
        id: The sweep's id.
        jobs: Their numbers.
    """

    tag: ClassVar[str] = "sweep"
    id: Loose[str]
    jobs: Loose[tuple[int, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackLine(JournalLine):
    """A pack consists of these jobs from here on.

    Attributes:
        pack: Its name.
        jobs: Its jobs.
        rows: Samples of one step of all of them.
        predicted_s: Seconds that the plan gives it.
    """

    tag: ClassVar[str] = "pack"
    pack: str
    jobs: tuple[int, ...]
    rows: Loose[int]
    predicted_s: Loose[float] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BeganLine(JournalLine):
    """A worker was sent jobs.

    Attributes:
        pack: The pack that they are of.
        slot: Where it trains.
        jobs: The jobs: all of the pack, or those that join it.
    """

    tag: ClassVar[str] = "began"
    pack: str
    slot: str
    jobs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumedLine(JournalLine):
    """A job goes on from its last checkpoint.

    Attributes:
        job: Its number.
        spool: The file that its events go to.
    """

    tag: ClassVar[str] = "resumed"
    job: int
    spool: Loose[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLine(JournalLine):
    """A job is in a new state.

    Attributes:
        job: Its number.
        state: The state.
        error: Why it failed or was ended.
        summary: Results of a finished one.
    """

    tag: ClassVar[str] = "job"
    job: int
    state: State
    error: str | None
    summary: Summary | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedLine(JournalLine):
    """A validation of a job that comes to its end, image by image: its last, and its best where that is another.

    Attributes:
        job: Its number.
        by_item: What was measured of each image.
    """

    tag: ClassVar[str] = "judged"
    job: int
    by_item: ByItem


@dataclass(frozen=True, kw_only=True, slots=True)
class ForkedLine(JournalLine):
    """A job began where another one was.

    Attributes:
        job: Its number.
        lineage: Which other one, and where: its number and name, the optimizer steps and samples that it had done.
    """

    tag: ClassVar[str] = "forked"
    job: int
    lineage: Lineage


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartLine(JournalLine):
    """A worker died, and its jobs start again.

    Attributes:
        pack: The pack that they were of.
        jobs: Their numbers.
    """

    tag: ClassVar[str] = "restart"
    pack: Loose[str]
    jobs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLine(JournalLine):
    """Memory ran short, and something was done about it.

    Attributes:
        job: The job that trains otherwise now.
        rung: The step of the ladder.
        step: Optimizer steps that the job had done.
        reason: What was short.
        values: How it trains now.
    """

    tag: ClassVar[str] = "memory"
    job: int
    rung: str
    step: Loose[int] = None
    reason: Loose[str] = None
    values: Loose[Mapping[str, object]] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GainLine(JournalLine):
    """What training together gains, as a pack's first steps told.

    Attributes:
        pack: The pack.
        key: What it goes for: the base, its input and the rows of a member.
        members: Of the whole pack.
        rows: Samples of one step of the whole pack.
        chosen: The most members that are worth training together.
        ratio: Time of the halves of so many over the time of all of them together.
        seconds: Members together to the seconds in which the whole pack took one step so.
    """

    tag: ClassVar[str] = "gain"
    pack: Loose[str]
    key: str
    members: int
    rows: Loose[int]
    chosen: int
    ratio: float
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLine(JournalLine):
    """A worker came or went.

    Attributes:
        state: ``started``, ``left``, ``ended`` (by itself) or ``stalled`` (and was ended).
        pid: Its process.
        code: The exit status of one that went.
        slot: Where it works.
    """

    tag: ClassVar[str] = "worker"
    state: str
    pid: int
    code: Loose[int] = None
    slot: Loose[str] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectsLine(JournalLine):
    """When the sweep should be over.

    Attributes:
        ends: That time (Unix seconds); null while unknown.
    """

    tag: ClassVar[str] = "expects"
    ends: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingLine(JournalLine):
    """Other sweeps have devices that this one could train on.

    Attributes:
        lines: What people are told of each; none when nothing is waited for any more.
    """

    tag: ClassVar[str] = "waiting"
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedLine(JournalLine):
    """Somebody asked for something to be done with a job.

    Attributes:
        job: Its number.
        to: What: ``stop`` or ``prune``.
    """

    tag: ClassVar[str] = "asked"
    job: Loose[int]
    to: Loose[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class InterruptedLine(JournalLine):
    """The whole sweep was asked to stop."""

    tag: ClassVar[str] = "interrupted"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedLine(JournalLine):
    """The launcher is done with the sweep.

    Attributes:
        exit_code: What its process ends with.
    """

    tag: ClassVar[str] = "ended"
    exit_code: Loose[int]


JOURNAL: Kinds[JournalLine] = Kinds(
    "event",
    (
        *(HeadLine, LauncherLine, SweepLine, PackLine, BeganLine, ResumedLine, JobLine, JudgedLine, ForkedLine),
        *(
            RestartLine,
            MemoryLine,
            GainLine,
            WorkerLine,
            ExpectsLine,
            WaitingLine,
            AskedLine,
            InterruptedLine,
            EndedLine,
        ),
    ),
)
