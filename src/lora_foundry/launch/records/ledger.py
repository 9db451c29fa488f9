"""Every sweep and job below a folder, as files tell it: while sweeps run, afterwards, and without MLflow.

Reads ``sweep.json``, ``journal.jsonl`` and the ends of the spools, nothing else, and imports little: a thousand jobs
are listed in under a second.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.records.journal import FILE, read_journal
from lora_foundry.launch.records.record import read_sweep, sweep_dirs
from lora_foundry.wire.events import EVENTS, ProgressEvent, StateEvent
from lora_foundry.wire.journal import BeganLine, ExpectsLine, JobLine, JournalLine, MemoryLine, RestartLine, WaitingLine
from lora_foundry.wire.states import ENDED
from lora_foundry.wire.summary import Summary

_TAIL_BYTES = 512 * 1024


@dataclass(slots=True, kw_only=True)
class Job:
    """One line of the ledger.

    Attributes:
        sweep: The sweep's id.
        job: Its number there.
        name: The adapter's name.
        dir: Its folder.
        state: ``PENDING``, ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED``, ``PRUNED``, or ``LOST``: pending or
            running, and the launcher is gone.
        device: The slot it was last on.
        step: Optimizer steps done.
        total: Of how many; null while unknown.
        samples_per_s: Last throughput.
        memory_gib: What its process took at its peak, once known.
        val_loss: Of a finished job.
        val_loss_rel: The same over the base's.
        started: Unix seconds of its first start.
        ended: Unix seconds of its end.
        restarts: How often it was started again after its worker died.
        memory_changes: What was done when memory ran out, in order.
        error: Why it failed.
    """

    sweep: str
    job: int
    name: str
    dir: str
    state: str = "PENDING"
    device: str | None = None
    step: int | None = None
    total: int | None = None
    samples_per_s: float | None = None
    memory_gib: float | None = None
    val_loss: float | None = None
    val_loss_rel: float | None = None
    started: float | None = None
    ended: float | None = None
    restarts: int = 0
    memory_changes: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep and its jobs.

    Attributes:
        id: Its id.
        dir: Its folder.
        command: The command line that made it.
        created: Unix seconds.
        running: Whether a launcher or a worker holds it.
        jobs: In order of number.
        waiting: What a running sweep waits for, a line for each device that another sweep has.
        ends: When a running sweep should be over (Unix seconds), as its launcher reckoned last; null while unknown.
    """

    id: str
    dir: Path
    command: str
    created: float
    running: bool
    jobs: tuple[Job, ...]
    waiting: tuple[str, ...] = ()
    ends: float | None = None


def read_ledger(root: Path, unread: list[str] | None = None) -> list[Sweep]:
    """All sweeps below ``root``, newest first; what cannot be read is left out.

    Args:
        root: Where they lie.
        unread: Takes a line for each sweep that is left out.
    """
    found = []
    for folder in sweep_dirs(root):
        try:
            found.append(read_sweep_state(folder))
        except SweepError as error:
            if unread is not None:
                unread.extend(error.problems)
    return found


def read_sweep_state(folder: Path) -> Sweep:
    """One sweep as it is now.

    Raises:
        SweepError: When it cannot be read, or a newer version of this program wrote it.
    """
    record = read_sweep(folder)
    jobs = {
        entry["job"]: Job(sweep=record["id"], job=entry["job"], name=entry["name"], dir=entry["dir"])
        for entry in record["jobs"]
    }
    running = is_held(folder)
    began: dict[int, float] = {}
    waiting: tuple[str, ...] = ()
    ends: float | None = None
    for line in read_journal(folder):
        _fold(line, jobs)
        if isinstance(line, ExpectsLine):
            ends = line.ends
        elif isinstance(line, WaitingLine):
            waiting = line.lines
        elif isinstance(line, BeganLine):
            began |= dict.fromkeys(line.jobs, float(line.t))
    _fold_tails(folder, jobs, began)
    if not running:
        for job in jobs.values():
            job.state = job.state if job.state in ENDED else "LOST"
    return Sweep(
        id=record["id"],
        dir=folder,
        command=record["command"],
        created=float(record["created"]),
        running=running,
        jobs=tuple(jobs[number] for number in sorted(jobs)),
        waiting=waiting if running else (),
        ends=ends if running else None,
    )


def is_held(folder: Path) -> bool:
    """Whether a launcher, or a worker that it left behind, works in ``folder``."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _fold(line: JournalLine, jobs: dict[int, Job]) -> None:
    if isinstance(line, JobLine) and line.job in jobs:
        _fold_state(line, jobs[line.job])
    elif isinstance(line, MemoryLine) and line.job in jobs:
        jobs[line.job].memory_changes.append(line.rung)
    elif isinstance(line, BeganLine):
        for one in (jobs[number] for number in line.jobs if number in jobs):
            one.device = line.slot
            if one.state in ENDED:  # resumed
                one.state, one.ended, one.error = "PENDING", None, None
    elif isinstance(line, RestartLine):
        for one in (jobs[number] for number in line.jobs if number in jobs):
            one.restarts += 1


def _fold_state(line: JobLine, job: Job) -> None:
    at = float(line.t)
    job.state, job.error = line.state, line.error
    if job.state == "RUNNING":
        job.started = job.started or at
    elif job.state in ENDED:
        job.ended = at
        _results(job, line.summary)


def _results(job: Job, told: Summary | None) -> None:
    job.val_loss, job.val_loss_rel = (told.val_loss, told.val_loss_rel) if told is not None else (None, None)
    job.samples_per_s, job.memory_gib = (told.samples_per_s, told.peak_mem_gib) if told is not None else (None, None)
    job.step = job.total = told.steps if told is not None and told.steps is not None else job.step


def _fold_tails(folder: Path, jobs: dict[int, Job], began: dict[int, float]) -> None:
    """What the journal does not tell: how far open jobs are, and where those stood that were stopped or failed."""
    open_jobs = {number for number, job in jobs.items() if job.state not in ENDED}
    stepless = {number for number, job in jobs.items() if job.step is None and job.device is not None}
    if open_jobs or stepless:
        for event in _tails(folder):
            number = event.job
            lately = number in open_jobs and event.t >= began.get(number, 0.0)
            if lately or (number in stepless and isinstance(event, ProgressEvent)):
                _progress(event, jobs[number])


def _tails(folder: Path) -> Iterator[ProgressEvent | StateEvent]:
    """Whole events near the end of each spool."""
    for spool in sorted((folder / "spool").glob("*.jsonl")):
        try:
            with spool.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                data = file.read()
        except OSError:
            continue
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            if b'"progress"' not in line and b'"state"' not in line:
                continue
            event = EVENTS.read(line)  # none where the tail began inside it
            if isinstance(event, ProgressEvent | StateEvent):
                yield event


def _progress(event: ProgressEvent | StateEvent, job: Job) -> None:
    """Steps, and an end that no launcher was there to journal."""
    if isinstance(event, ProgressEvent):
        job.step, job.total, job.samples_per_s = event.step, event.total, event.samples_per_s
        job.memory_gib = event.memory_gib
    elif event.state in ENDED:
        job.state, job.error, job.ended = event.state, event.error, float(event.t)
        _results(job, event.summary)


def columns(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The jobs as plain values, for JSON and CSV."""
    return [{name: getattr(job, name) for name in Job.__slots__} for job in jobs]
