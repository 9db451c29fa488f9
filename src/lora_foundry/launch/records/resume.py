"""Going on with what a sweep left: one job (``resume=<job folder>``) or all that is unfinished (``src.resume``)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.config.longer import Length
from lora_foundry.config.made_with import read_made_with
from lora_foundry.config.paths import home_path
from lora_foundry.config.schema import JobConfig, TrackingConfig
from lora_foundry.launch.records.leftover import Ready
from lora_foundry.launch.records.lengthening import Rate, length_problems, new_length, told_length
from lora_foundry.launch.records.reading import read_state
from lora_foundry.launch.records.record import HYDRA_FOLDER, SWEEP_FILE, StoredJob, StoredSweep, is_sweep, read_sweep
from lora_foundry.launch.records.state import JobState, SweepState
from lora_foundry.launch.records.stored_jobs import (
    CONFIG,
    DamagedJobError,
    has_checkpoint,
    read_job,
    read_stored_config,
    train_again,
)
from lora_foundry.launch.records.unchanged import DataCheck, Unchanged, few, refusals
from lora_foundry.tracking.records import JobRecord
from lora_foundry.wire.outcomes import JobOutcome

_ALLOWED = "allowed is a job's folder such as multirun/2026-11-22/17-05-33-a1b2c3/0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """Jobs of one sweep that can be continued.

    Attributes:
        sweep_dir: Their sweep's folder.
        sweep: Their sweep's record.
        jobs: The jobs, with their stored configurations.
        packs: Name and numbers of the jobs of each pack, in the order to train them.
        cwd: Folder that the stored configurations' relative paths start from.
        notes: What the user is told first.
        refused: Jobs that are left out since their configuration or their data changed, a line for each reason.
        damaged: Jobs that are left out since their configuration cannot be read, a line each.
        longer: What is to be the length of the only job from now on; null keeps the one it has.
    """

    sweep_dir: Path
    sweep: StoredSweep
    jobs: tuple[JobRecord, ...]
    packs: tuple[tuple[str, tuple[int, ...]], ...]
    cwd: Path
    notes: tuple[str, ...]
    refused: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    longer: Length | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each reason why jobs do not go on that would have to."""
        return (*self.refused, *self.damaged)

    def recorded_in(self, tracking: TrackingConfig | None) -> Resumed:
        """The same, recorded there; null keeps where the jobs were recorded."""
        if tracking is None:
            return self
        jobs = tuple(replace(job, config=replace(job.config, tracking=tracking)) for job in self.jobs)
        return replace(self, jobs=jobs)

    def told_longer(self, rate: Rate | None) -> Resumed:
        """The same, with what is said of a job that trains longer."""
        if self.longer is None:
            return self
        (job,) = self.jobs
        lines = told_length(read_stored_config(job.dir), job, self.longer, rate)
        return replace(self, notes=(*self.notes, *lines))

    def spools(self) -> list[Path]:
        """A new file for the events of each pack."""
        folder = self.sweep_dir / "spool"
        first = len(list(folder.glob("resume-*.jsonl")))
        return [folder / f"resume-{first + place}.jsonl" for place in range(len(self.packs))]


def nothing_left(sweep_dir: Path) -> str:
    """What is said of a sweep that is done."""
    return f"Nothing is left to do in {sweep_dir} ({command_line('status', sweep_dir)})"


def find_resumed(
    folder: str,
    tracking: TrackingConfig | None,
    changed: DataCheck | None = None,
    ready: Ready | None = None,
    *,
    asked: Mapping[str, float | None] | None = None,
) -> Resumed:
    """Look up the job in ``folder``.

    Args:
        folder: What ``resume=`` was given.
        tracking: Where to record instead of where the job was recorded; null keeps that.
        changed: Looks at its data; None leaves that to the worker.
        ready: Waits until nobody works in its sweep; None does not wait.
        asked: What of its length is to be another, by key (``trainer.max_steps``).

    Raises:
        SweepError: When it is no job's folder, holds no checkpoint, its configuration cannot be read, it or its data
            changed, or it cannot have the length.
    """
    job_dir, sweep_dir, sweep = _locate(folder)
    if ready is not None:
        ready(sweep_dir)
    entry = next((job for job in sweep.jobs if (sweep_dir / job.dir).resolve() == job_dir.resolve()), None)
    if entry is None:
        raise SweepError([f"resume: {sweep_dir / SWEEP_FILE} knows no job in {job_dir}; {_ALLOWED}"])
    try:
        job = read_job(sweep_dir, entry)
    except DamagedJobError as error:
        raise SweepError([f"resume: {_damaged(entry, error)}"]) from error
    length = new_length(job, asked) if asked else None
    if not has_checkpoint(job_dir):
        anew = train_again(entry, length)
        raise SweepError([f"resume: {job_dir} holds no checkpoint to continue from; train it anew: {anew}"])
    reason = Unchanged(changed, sweep.start()).reason(job_dir, job.config)
    if reason is not None:
        raise SweepError([f"resume: {line}" for line in refusals({job.name: reason}, sweep.command)])
    problems = [] if length is None else length_problems(job, length)
    if problems:
        raise SweepError([f"resume: {line}" for line in problems])
    return Resumed(
        sweep_dir=sweep_dir,
        sweep=sweep,
        jobs=(job if length is None else replace(job, config=length.of(job.config)),),
        packs=((job.pack, (job.index,)),),
        cwd=sweep.start(),
        notes=(f"continuing {job.name} in {job_dir}",),
        longer=length,
    ).recorded_in(tracking)


def find_unfinished(
    sweep_dir: Path, *, failed: bool, only: Collection[int] | None = None, changed: DataCheck | None = None
) -> Resumed:
    """What is left of a sweep: jobs that were stopped, lost or never begun, and on request those that failed.

    Jobs that trained together go on together, so that an interrupted pack continues bitwise as it was.

    Args:
        sweep_dir: Its folder.
        failed: Whether failed jobs are tried again.
        only: The numbers of the jobs that are meant; None means all.
        changed: Looks at the jobs' data; None leaves that to the worker.

    Returns:
        Without jobs where nothing is left that can go on; ``notes`` and ``left_out`` say why.

    Raises:
        SweepError: When the sweep cannot be read.
    """
    sweep = read_sweep(sweep_dir)
    state = read_state(sweep_dir, stored=sweep)
    results = {result.job: result for result in state.outcomes(sweep_dir) if only is None or result.job in only}
    unchanged = Unchanged(changed, sweep.start())
    lost = [
        number
        for number, result in results.items()
        if _is_lost(sweep_dir, result) or (failed and result.state == "FAILED")
    ]
    jobs: dict[int, JobRecord] = {}
    reasons: dict[int, str | None] = {}
    damaged: dict[int, str] = {}
    for number, result in results.items():
        try:
            if number in lost:
                jobs[number] = read_job(sweep_dir, state.jobs[number].stored)
                reasons[number] = unchanged.reason(result.dir, jobs[number].config)
            elif result.state == "FINISHED":
                reasons[number] = unchanged.reason(result.dir, _edited_config(result.dir))
        except DamagedJobError as error:
            damaged[number] = _damaged(state.jobs[number].stored, error)
    refused = {number: reason for number, reason in sorted(reasons.items()) if reason is not None}
    told = refusals({results[number].name: reason for number, reason in refused.items()}, sweep.command)
    out = {*refused, *damaged}
    left = [number for number in lost if number not in out]
    return Resumed(
        sweep_dir=sweep_dir,
        sweep=sweep,
        jobs=tuple(jobs[number] for number in left),
        packs=_last_packs(state, left),
        cwd=sweep.start(),
        notes=(
            *(_going_on(results[number], state.jobs[number]) for number in left),
            *_skipped({n: one for n, one in results.items() if n not in left and n not in out}, unchanged),
        ),
        refused=told,
        damaged=tuple(damaged[number] for number in sorted(damaged)),
    )


def _damaged(entry: StoredJob, error: DamagedJobError) -> str:
    return f"{entry.name}: {error.problems[0]}. Restore it to go on, or train it anew: {train_again(entry)}"


def readable_jobs(sweep_dir: Path) -> list[JobRecord]:
    """The jobs of a sweep whose stored configurations can be read.

    Raises:
        SweepError: When the sweep's record cannot be read.
    """
    found = []
    for entry in read_sweep(sweep_dir).jobs:
        with contextlib.suppress(DamagedJobError):
            found.append(read_job(sweep_dir, entry))
    return found


def is_finished(sweep_dir: Path, result: JobOutcome) -> bool:
    """Whether the job finished and its adapter lies there, whole."""
    if result.summary is None or result.file is None:
        return False
    file = sweep_dir / result.file
    return file.is_file() and result.summary.bytes in (None, file.stat().st_size)


def _is_lost(sweep_dir: Path, result: JobOutcome) -> bool:
    """Whether the job has no end, or finished with a file that is gone or torn."""
    return result.state == "KILLED" or (result.state == "FINISHED" and not is_finished(sweep_dir, result))


def _edited_config(job_dir: Path) -> JobConfig | None:
    """The stored configuration of a job that has ended, read only where somebody touched it since it began."""
    made, stored = read_made_with(job_dir), job_dir / CONFIG
    touched = made is not None and stored.exists() and stored.stat().st_mtime > made.started
    return read_stored_config(job_dir) if touched else None


def _going_on(result: JobOutcome, job: JobState) -> str:
    how = "from its last checkpoint" if has_checkpoint(result.dir) else "from the beginning: it has no checkpoint"
    if job.stored.fork is not None and not has_checkpoint(result.dir):
        how = f"from where job {job.stored.fork.of} is then, of which it is a fork without a checkpoint"
    return f"{result.name} ({result.state}) goes on {how}"


def _skipped(results: Mapping[int, JobOutcome], unchanged: Unchanged) -> list[str]:
    """What is not trained again, and why."""
    finished = [result for result in results.values() if result.state == "FINISHED"]
    same = [result.name for result in finished if unchanged.is_recorded(result.dir)]
    unknown = [result.name for result in finished if result.name not in same]
    broken = [result.name for result in results.values() if result.state == "FAILED"]
    pruned = [result.name for result in results.values() if result.state == "PRUNED"]
    notes = [f"skipped: finished, same config and data: {few(same)}"] if same else []
    notes += [f"skipped, finished with its files in place: {few(unknown)}"] if unknown else []
    notes += [f"skipped, pruned (resume=<its folder> goes on with one): {few(pruned)}"] if pruned else []
    notes += [f"skipped, failed ({command_line('retry')} tries again): {few(broken)}"] if broken else []
    return notes


def _last_packs(state: SweepState, left: Sequence[int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The packs that the jobs were last in; of a fork that never began that of the job that it is of."""
    packs = {number: _pack_of(state.jobs[number], state) for number in left}
    return tuple(
        (name, tuple(number for number in left if packs[number] == name)) for name in dict.fromkeys(packs.values())
    )


def _pack_of(job: JobState, state: SweepState) -> str:
    fork = job.stored.fork
    return job.pack if fork is None or job.lineage is not None else _pack_of(state.jobs[fork.of], state)


def _locate(folder: str) -> tuple[Path, Path, StoredSweep]:
    """The job's folder, its sweep's, and the sweep's record."""
    job_dir = home_path(folder).absolute()
    if not job_dir.is_dir():
        raise SweepError([f"resume: got {folder!r}, which is no folder; {_ALLOWED}"])
    if not (job_dir / HYDRA_FOLDER).is_dir():
        inside = sorted(path.parent.parent.name for path in job_dir.glob(f"*/{HYDRA_FOLDER}/config.yaml"))
        jobs = (
            f"; it is a sweep's folder, its jobs are {', '.join(inside)}: resume={folder.rstrip('/')}/"
            if inside
            else ""
        )
        raise SweepError([f"resume: got {folder!r}, which holds no job{jobs}{''.join(inside[:1])}; {_ALLOWED}"])
    sweep_dir = next((parent for parent in job_dir.parents if is_sweep(parent)), None)
    if sweep_dir is None:
        raise SweepError(
            [f"resume: {job_dir} lies in no sweep's folder ({SWEEP_FILE} is missing above it); {_ALLOWED}"]
        )
    return job_dir, sweep_dir, read_sweep(sweep_dir)
