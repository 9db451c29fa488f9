"""What a report is told of a sweep: frozen values, read by whoever may read its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lora_foundry.wire.verdict import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command line that somebody may want next.

    Attributes:
        about: What it does.
        line: For a shell.
    """

    about: str
    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportJob:
    """One job as it is now.

    Attributes:
        job: Its number.
        name: The adapter's name.
        state: ``FINISHED``, ``FAILED``, ``KILLED``, ``PRUNED``, ``RUNNING``, ``PENDING`` or ``LOST``.
        values: Swept key to its value, as it was written; a key that the job does not set is missing.
        loss: Validation loss of its best adapter; null before it finished, as the next six.
        relative: The same over the base's.
        best_step: Optimizer steps of that adapter.
        size: Bytes of the adapter's file.
        seconds: Of training.
        memory_gib: Most that its process took.
        file: The adapter to keep, from the sweep's folder.
        step: Optimizer steps done.
        total: Of how many; null while unknown.
        error: Why it failed or was ended.
        note: What else is to be said of it, such as why it ended early.
    """

    job: int
    name: str
    state: str
    values: Mapping[str, str]
    loss: float | None = None
    relative: float | None = None
    best_step: int | None = None
    size: int | None = None
    seconds: float | None = None
    memory_gib: float | None = None
    file: str | None = None
    step: int | None = None
    total: int | None = None
    error: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A point that was trained with several seeds.

    Attributes:
        name: What it sets.
        jobs: Numbers of its jobs.
        mean: Of their losses over the base's.
        spread: Their standard deviation.
    """

    name: str
    jobs: tuple[int, ...]
    mean: float
    spread: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What the steps of a pack took, and what was predicted of them.

    Attributes:
        names: Of the jobs that trained together.
        predicted_gib: Before it trained; null where nothing was predicted.
        measured_gib: The most while it trained.
    """

    names: tuple[str, ...]
    predicted_gib: float | None
    measured_gib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """What a search found besides its jobs.

    Attributes:
        objectives: What it is about: a metric each.
        directions: ``minimize`` or ``maximize``, for each.
        told: Job to its values, of trials that are complete.
        front: Of these the jobs that no other is better than in every objective.
        importance: Key to its share of what decides; empty where there are too few trials to tell.
        trouble: Why nothing of it can be told; null where it can.
    """

    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    told: Mapping[int, tuple[float, ...]]
    front: tuple[int, ...]
    importance: Mapping[str, float]
    trouble: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSweep:
    """A sweep as it is now.

    Attributes:
        id: Its id.
        command: The command line that made it.
        cwd: Folder that it was started in; null where that is not known.
        created: Unix seconds.
        running: Whether somebody works in it.
        keys: What was swept, as on the command line.
        jobs: In order of number.
        verdict: Which adapter to keep; null where nothing can be compared.
        settings: Points with several seeds each; none where seeds were not repeated.
        curves: Metric to job to its ``(samples, value)``, in the order in which they were measured.
        commands: What may be typed next.
        hints: What the results suggest to try, each with its command.
        searched: Of a search; null of a grid.
        memory: Of its packs, as far as it was measured.
    """

    id: str
    command: str
    cwd: str | None
    created: float
    running: bool
    keys: tuple[str, ...]
    jobs: tuple[ReportJob, ...]
    verdict: Verdict | None
    settings: tuple[Setting, ...]
    curves: Mapping[str, Mapping[int, Sequence[tuple[int, float]]]]
    commands: tuple[Command, ...]
    hints: tuple[Command, ...] = ()
    searched: Searched | None = None
    memory: tuple[Memory, ...] = ()
