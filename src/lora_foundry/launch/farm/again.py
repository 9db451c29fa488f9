"""The same command once more: which of its points an earlier sweep has, and how far they are there."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.digest import config_digest
from lora_foundry.config.errors import SweepError
from lora_foundry.config.precision import possible
from lora_foundry.launch.points.point import Point
from lora_foundry.launch.records.journal import is_held
from lora_foundry.launch.records.leftover import Ready
from lora_foundry.launch.records.reading import read_results
from lora_foundry.launch.records.record import StoredJob, StoredSweep, is_sweep, read_sweep, sweep_dirs
from lora_foundry.launch.records.resume import Resumed, find_unfinished, is_finished
from lora_foundry.launch.records.unchanged import DataCheck, Unchanged, refusals
from lora_foundry.launch.screen.table import near
from lora_foundry.wire.outcomes import JobOutcome

_LOOKED_AT = 200  # newest sweeps whose jobs are compared
_DEFAULT_ROOT = "multirun"

Digests = tuple[str, ...]
"""Of the configurations that a job may have been trained with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """What is there already of a command's points.

    Attributes:
        whole: The sweep that has every point, with what is left of them; None where no single sweep has.
        jobs: Number of each point to the number of its job in ``whole``.
        finished: Where there is no ``whole``: number of a point to how an earlier sweep finished it.
        notes: What the user is told of the points that are not trained again.
    """

    whole: Resumed | None
    jobs: Mapping[int, int]
    finished: Mapping[int, JobOutcome]
    notes: tuple[str, ...]

    def left(self, points: Sequence[Point]) -> list[Point]:
        """The points that still have to train."""
        if self.whole is None:
            return [point for point in points if point.index not in self.finished]
        numbers = {job.index for job in self.whole.jobs}
        return [point for point in points if self.jobs[point.index] in numbers]


def earlier_sweeps(pattern: str, sweep_dir: Path, unread: list[str] | None = None) -> list[tuple[Path, StoredSweep]]:
    """Folders and records of the sweeps that a command may be going on with, newest first.

    Args:
        pattern: ``hydra.sweep.dir`` as it was given, interpolations and all; sweeps lie below its constant beginning.
        sweep_dir: What it became.
        unread: Takes a line for each sweep whose record cannot be read, and in which nothing is found therefore.
    """
    constant, interpolated, _ = pattern.partition("${")
    root = Path(constant[: constant.rfind("/") + 1] if interpolated else _DEFAULT_ROOT)
    newest = [folder.absolute() for folder in sweep_dirs(root)[:_LOOKED_AT]]
    own = [] if interpolated else [sweep_dir.absolute()]
    return list(_read(dict.fromkeys([*own, *newest]), [] if unread is None else unread))


def find_again(
    points: Sequence[Point],
    sweeps: Sequence[tuple[Path, StoredSweep]],
    changed: DataCheck | None,
    command: str,
    ready: Ready | None = None,
) -> Again:
    """Look for the points in earlier sweeps: all in one, else the finished ones in any, the newest first.

    Args:
        points: Checked points.
        sweeps: What :func:`earlier_sweeps` found.
        changed: Looks at the jobs' data.
        command: The command line, for messages.
        ready: Waits until nobody works in the sweep that has all points; None does not wait.

    Raises:
        SweepError: When a job that would be skipped or continued has another configuration or other data now, or all
            that is left to do cannot be read.
    """
    wanted = _wanted(points)
    for folder, record in sweeps:
        jobs = _match(wanted, record.jobs)
        if len(jobs) == len(points):
            if ready is not None:
                ready(folder)
            whole = find_unfinished(folder, failed=False, only=set(jobs.values()), changed=changed)
            if whole.refused or (whole.damaged and not whole.jobs):
                raise SweepError(whole.left_out)
            return Again(whole=whole, jobs=jobs, finished={}, notes=whole.notes)
    return _find_finished(wanted, sweeps, Unchanged(changed, Path.cwd()), command)


def unfinished_note(points: Sequence[Point], sweeps: Sequence[tuple[Path, StoredSweep]]) -> str | None:
    """A line when the newest sweep of the same configurations was not finished, with how to go on there."""
    wanted = _wanted(points)
    for folder, record in sweeps:
        jobs = _match(wanted, record.jobs)
        if len(jobs) < len(points):
            continue
        try:
            results = [result for result in read_results(folder) if result.job in set(jobs.values())]
        except SweepError:
            continue  # it cannot go on
        if is_held(folder) or all(result.state != "KILLED" for result in results):
            return None
        go_on = command_line("resume", near(folder))
        done = sum(is_finished(folder, result) for result in results)
        return (
            f"{near(folder)} has the same jobs, unfinished ({done} of {len(points)} done). To go on there instead: "
            f"{go_on}, or this command with hydra.launcher.skip_finished=true"
        )
    return None


def _find_finished(
    wanted: Mapping[int, Digests], sweeps: Sequence[tuple[Path, StoredSweep]], unchanged: Unchanged, command: str
) -> Again:
    left = dict(wanted)
    finished: dict[int, JobOutcome] = {}
    reasons: dict[str, str] = {}
    notes = []
    for folder, record in sweeps:
        jobs = _match(left, record.jobs)
        results = {result.job: result for result in read_results(folder)} if jobs else {}
        for point, job in jobs.items():
            result = results[job]
            pruned = result.state == "PRUNED"
            if not pruned and not is_finished(folder, result):
                continue
            left.pop(point)
            reason = unchanged.reason(result.dir)
            if reason is not None:
                reasons[result.name] = reason
                continue
            finished[point] = replace(result, job=point)
            where = result.dir if pruned else folder / str(result.file)
            how = "pruned" if pruned else "finished"
            notes.append(f"skipped: {how}, same config and data: {result.name}, {near(where)}")
    if reasons:
        raise SweepError(refusals(reasons, command))
    return Again(whole=None, jobs={}, finished=finished, notes=tuple(notes))


def _wanted(points: Sequence[Point]) -> dict[int, Digests]:
    """A point that leaves its precision to the device was trained in whichever there was."""
    return {point.index: tuple(config_digest(one) for one in possible(point.config)) for point in points}


def _match(wanted: Mapping[int, Digests], entries: Sequence[StoredJob]) -> dict[int, int]:
    """Number of a point to the number of a job with its configuration; equal ones one to one, in order."""
    jobs: defaultdict[str, deque[int]] = defaultdict(deque)
    for entry in entries:
        jobs[str(entry.config)].append(entry.job)
    found = {}
    for point, digests in wanted.items():
        job = next((jobs[digest].popleft() for digest in digests if jobs[digest]), None)
        if job is not None:
            found[point] = job
    return found


def _read(folders: Collection[Path], unread: list[str]) -> Iterator[tuple[Path, StoredSweep]]:
    for folder in folders:
        try:
            yield folder, read_sweep(folder)
        except SweepError as error:
            if is_sweep(folder):  # else it is the command's own folder, which need not be there
                unread.extend(error.problems)
