"""The events that a worker appends to its spool, and how they are read while it still writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.forks import Lineage
from lora_foundry.wire.lines import Kinds, Loose, TimedLine, read_new
from lora_foundry.wire.states import State
from lora_foundry.wire.summary import Summary


@dataclass(frozen=True, kw_only=True, slots=True)
class Event(TimedLine):
    """What a worker tells.

    Attributes:
        job: The job's number; null for the whole pack.
    """

    job: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PackStarted(Event):
    """A worker took a pack up.

    Attributes:
        pack: Its name.
        jobs: Its jobs.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["pack_started"] = "pack_started"
    pack: Loose[str]
    jobs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackEnded(Event):
    """A worker is done with a pack.

    Attributes:
        pack: Its name.
        jobs: Its jobs, with those that joined.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["pack_ended"] = "pack_ended"
    pack: Loose[str]
    jobs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackBroken(Event):
    """A pack of several jobs cannot go on as a whole; whose fault it was shows when they train apart.

    Attributes:
        pack: Its name.
        error: What went wrong.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["pack_broken"] = "pack_broken"
    pack: Loose[str]
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Alive(Event):
    """A sign of life, every few seconds.

    Attributes:
        work: How much was done so far; a number that stands still means work that stands still.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["alive"] = "alive"
    work: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Joining(Event):
    """Jobs are let into the pack under way.

    Attributes:
        jobs: Their numbers.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["joining"] = "joining"
    jobs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GainFound(Event):
    """What a trial of the pack's size found.

    Attributes:
        members: Of the whole pack.
        rows: Samples of one step of the whole pack.
        chosen: The most members that are worth training together.
        ratio: Time of the halves of so many over the time of all of them together; 1 for a single member.
        seconds: Members together to the seconds in which the whole pack took one step so.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["gain"] = "gain"
    members: int
    rows: int
    chosen: int
    ratio: float
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedBack(Event):
    """Jobs that train in another pack from here on, since training together gains nothing.

    Attributes:
        jobs: Their numbers.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["handed_back"] = "handed_back"
    jobs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused(Event):
    """Jobs that the pack under way has no room for.

    Attributes:
        jobs: Their numbers.
        reason: What was short.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["refused"] = "refused"
    jobs: tuple[int, ...]
    reason: Loose[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoDevice(Event):
    """The device that the worker was told is not there, or cannot compute; it trains nothing and ends.

    Attributes:
        reason: What torch says of it, and what to do.
    """

    tag: ClassVar[str] = "worker"
    state: Literal["no_device"] = "no_device"
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StateEvent(Event):
    """A job is in a new state.

    Attributes:
        state: The state.
        error: Why it failed or was ended.
        summary: Results of a finished one.
    """

    tag: ClassVar[str] = "state"
    job: int
    state: State
    error: str | None = None
    summary: Summary | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsEvent(Event):
    """What was measured at a step.

    Attributes:
        step: Optimizer steps done.
        samples: Samples seen, the axis of MLflow's curves: so those of different batch sizes line up.
        values: Metric to value.
    """

    tag: ClassVar[str] = "metrics"
    job: int
    step: int
    samples: int
    values: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedEvent(Event):
    """A validation, image by image.

    Attributes:
        by_item: What was measured of each.
    """

    tag: ClassVar[str] = "judged"
    job: int
    by_item: ByItem


@dataclass(frozen=True, kw_only=True, slots=True)
class Forked(Event):
    """A job began where another one was.

    Attributes:
        lineage: Which other one, and where: its number and name, the optimizer steps and samples that it had done.
    """

    tag: ClassVar[str] = "forked"
    job: int
    lineage: Lineage


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressEvent(Event):
    """How far a job is, for the progress bar: at most four a second.

    Attributes:
        step: Optimizer steps done.
        total: Of how many.
        samples: Samples seen.
        loss: Of the last step.
        samples_per_s: Throughput.
        memory_gib: Most that the process took so far.
    """

    tag: ClassVar[str] = "progress"
    job: int
    step: int
    total: int
    samples: Loose[int]
    loss: Loose[float]
    samples_per_s: Loose[float]
    memory_gib: Loose[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class TagsEvent(Event):
    """Tags for a job's run.

    Attributes:
        values: Tag to value.
    """

    tag: ClassVar[str] = "tags"
    values: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEvent(Event):
    """A picture was drawn.

    Attributes:
        step: Optimizer steps done.
        samples: Samples seen.
        key: Its name in MLflow.
        prompt: What was asked for.
        seed: Seed of the starting noise.
        scale: Scale of the adapter; 0 is the base.
        path: The file, from the sweep's folder.
    """

    tag: ClassVar[str] = "image"
    job: int
    step: int
    samples: int
    key: str
    prompt: str
    seed: int
    scale: float
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactEvent(Event):
    """A file or a folder for a job's run.

    Attributes:
        path: Where it lies, from the sweep's folder.
        folder: Where it goes in the run.
    """

    tag: ClassVar[str] = "artifact"
    job: int
    path: str
    folder: Loose[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEvent(Event):
    """Memory ran short, and something was done about it.

    Attributes:
        rung: The step of the ladder.
        step: Optimizer steps that the job had done.
        reason: What was short.
        values: How it trains now.
    """

    tag: ClassVar[str] = "memory"
    job: int
    rung: str
    step: int
    reason: str
    values: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEvent(Event):
    """A message for people.

    Attributes:
        level: ``info`` tells where the pack is, ``stage`` what is done between two steps; ``warning`` and ``error``.
        message: The message.
    """

    tag: ClassVar[str] = "log"
    level: Loose[str]
    message: str


WORKER_EVENTS = (PackStarted, PackEnded, PackBroken, Alive, Joining, GainFound, HandedBack, Refused, NoDevice)
"""What a worker tells of itself, rather than of a job."""

EVENTS: Kinds[Event] = Kinds(
    "kind",
    (
        *WORKER_EVENTS,
        *(StateEvent, MetricsEvent, JudgedEvent, Forked, ProgressEvent, TagsEvent),
        *(ImageEvent, ArtifactEvent, MemoryEvent, LogEvent),
    ),
)


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The whole lines of ``path`` after byte ``offset``, and the offset behind the last of them.

    A torn last line (its writer is busy, or was killed) stays for the next read; a line that is no event, left by a
    kill in the middle of a write and written past, is passed over. Of what is no readable file nothing is told.
    """
    try:
        lines, offset = read_new(path, offset)
    except OSError:
        return [], offset
    return list(EVENTS.read_all(lines)), offset
