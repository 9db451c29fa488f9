"""Every sweep and job below a folder, as files tell it: while sweeps run, afterwards, and without MLflow.

Reads ``sweep.json``, ``journal.jsonl`` and the ends of the spools, nothing else, and imports little: a thousand jobs
are listed in under a second.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.config.events import KINDS
from src.launch.errors import NewerFormatError, check_format
from src.launch.journal import ENDED, FILE, read_journal

SWEEP_FILE = "sweep.json"
_TAIL_BYTES = 512 * 1024


@dataclass(slots=True, kw_only=True)
class Job:
    """One line of the ledger.

    Attributes:
        sweep: The sweep's id.
        job: Its number there.
        name: The adapter's name.
        dir: Its folder.
        state: ``PENDING``, ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED``, or ``LOST``: pending or running, and the
            launcher is gone.
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
    """

    id: str
    dir: Path
    command: str
    created: float
    running: bool
    jobs: tuple[Job, ...]
    waiting: tuple[str, ...] = ()


def sweep_dirs(root: Path) -> list[Path]:
    """Folders of sweeps below ``root``, newest first; ``root`` itself when it is one."""
    found = [root] if (root / SWEEP_FILE).is_file() else [path.parent for path in root.glob(f"*/*/{SWEEP_FILE}")]
    return sorted(found, key=_created, reverse=True)


def read_ledger(root: Path, newer: list[str] | None = None) -> list[Sweep]:
    """All sweeps below ``root``, newest first; what cannot be read is left out.

    Args:
        root: Where they lie.
        newer: Takes a line for each sweep that only a newer version of this program can read.
    """
    found = []
    for folder in sweep_dirs(root):
        try:
            sweep = read_sweep_state(folder)
        except NewerFormatError as error:
            if newer is not None:
                newer.extend(error.problems)
            continue
        found += [] if sweep is None else [sweep]
    return found


def read_sweep_state(folder: Path) -> Sweep | None:
    """One sweep as it is now.

    Raises:
        NewerFormatError: When a newer version of this program wrote it.
    """
    record = record_of(folder)
    if record is None:
        return None
    check_format(folder / SWEEP_FILE, record.get("format"))
    jobs = {
        int(entry["job"]): Job(sweep=record["id"], job=int(entry["job"]), name=entry["name"], dir=entry["dir"])
        for entry in record["jobs"]
    }
    running = is_held(folder)
    began: dict[int, float] = {}
    waiting: tuple[str, ...] = ()
    for line in read_journal(folder):
        _fold(line, jobs)
        if line.get("event") == "waiting":
            waiting = tuple(map(str, line.get("lines", ())))
        if line.get("event") == "began":
            began |= dict.fromkeys(line.get("jobs", ()), float(line.get("t", 0.0)))
    _fold_tails(folder, jobs, began)
    if not running:
        for job in jobs.values():
            job.state = job.state if job.state in ENDED else "LOST"
    return Sweep(
        id=record["id"],
        dir=folder,
        command=str(record.get("command", "")),
        created=float(record.get("created", 0.0)),
        running=running,
        jobs=tuple(jobs[number] for number in sorted(jobs)),
        waiting=waiting if running else (),
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


def record_of(folder: Path) -> dict[str, Any] | None:
    """The sweep's own record; null where there is none that can be read."""
    try:
        record = json.loads((folder / SWEEP_FILE).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("jobs"), list) else None


def _created(folder: Path) -> float:
    record = record_of(folder)
    return float(record.get("created", 0.0)) if record else 0.0


def _fold(line: dict[str, Any], jobs: dict[int, Job]) -> None:
    event = line.get("event")
    several = [jobs[number] for number in line.get("jobs", ()) if number in jobs]
    job = jobs.get(line.get("job"))  # type: ignore[arg-type]
    if event == "began":
        for one in several:
            one.device = line.get("slot")
            if one.state in ENDED:  # resumed
                one.state, one.ended, one.error = "PENDING", None, None
    elif event == "restart":
        for one in several:
            one.restarts += 1
    elif event == "memory" and job is not None:
        job.memory_changes.append(str(line.get("rung")))
    elif event == "job" and job is not None:
        _fold_state(line, job)


def _fold_state(line: dict[str, Any], job: Job) -> None:
    at = float(line.get("t", 0.0))
    job.state, job.error = str(line.get("state")), line.get("error")
    if job.state == "RUNNING":
        job.started = job.started or at
    elif job.state in ENDED:
        job.ended = at
        _results(job, line.get("summary") or {})


def _results(job: Job, summary: dict[str, Any]) -> None:
    job.val_loss, job.val_loss_rel = summary.get("val_loss"), summary.get("val_loss_rel")
    job.samples_per_s, job.memory_gib = summary.get("samples_per_s"), summary.get("peak_mem_gib")
    job.step = job.total = summary.get("steps", job.step)


def _fold_tails(folder: Path, jobs: dict[int, Job], began: dict[int, float]) -> None:
    """What the journal does not tell: how far open jobs are, and where those stood that were stopped or failed."""
    open_jobs = {number for number, job in jobs.items() if job.state not in ENDED}
    stepless = {number for number, job in jobs.items() if job.step is None and job.device is not None}
    if open_jobs or stepless:
        for event in _tails(folder):
            number = event.get("job")
            if number is None:
                continue
            lately = number in open_jobs and float(event.get("t", 0.0)) >= began.get(number, 0.0)
            if lately or (number in stepless and event.get("kind") == "progress"):
                _progress(event, jobs[number])


def _tails(folder: Path) -> Iterator[dict[str, Any]]:
    """Whole events near the end of each spool."""
    for spool in sorted((folder / "spool").glob("*.jsonl")):
        with spool.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            if b'"progress"' not in line and b'"state"' not in line:
                continue
            try:
                event = json.loads(line)
            except ValueError:
                continue  # the tail began inside it
            if isinstance(event, dict) and event.get("kind") in KINDS:
                yield event


def _progress(event: dict[str, Any], job: Job) -> None:
    """Steps, and an end that no launcher was there to journal."""
    if event.get("kind") == "progress":
        job.step, job.total, job.samples_per_s = event.get("step"), event.get("total"), event.get("samples_per_s")
    elif event.get("kind") == "state" and event.get("state") in ENDED:
        job.state, job.error, job.ended = str(event["state"]), event.get("error"), float(event["t"])
        _results(job, event.get("summary") or {})


def columns(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The jobs as plain values, for JSON and CSV."""
    return [{name: getattr(job, name) for name in Job.__slots__} for job in jobs]
