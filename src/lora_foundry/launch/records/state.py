"""The state of a sweep: its journal's lines and its workers' events, folded one by one.

This is the only place that says what a line makes of a job. The farm folds each line as it writes it and each event as
it hears it; whoever reads a sweep's folder (:mod:`lora_foundry.launch.records.reading`) folds the same ones. So what a
terminal shows live is what status, results and a resume find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_foundry.launch.records.record import StoredJob, StoredSweep
from lora_foundry.tracking.processes import ProcessMark
from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.events import Event, Forked, JudgedEvent, ProgressEvent, StateEvent
from lora_foundry.wire.forks import Lineage
from lora_foundry.wire.journal import (
    BeganLine,
    EndedLine,
    ExpectsLine,
    ForkedLine,
    GainLine,
    JobLine,
    JournalLine,
    JudgedLine,
    LauncherLine,
    MemoryLine,
    PackLine,
    RestartLine,
    ResumedLine,
    WaitingLine,
    WorkerLine,
)
from lora_foundry.wire.outcomes import JobOutcome, learns_from_all
from lora_foundry.wire.states import ENDED, State
from lora_foundry.wire.summary import Summary

_AS_ROUNDED = 1e-8  # losses of items are told with ten digits


@dataclass(kw_only=True, slots=True)
class JobState:
    """A job and how far it is.

    Attributes:
        stored: The job as its sweep's record has it.
        pack: Name of the pack that it was last in.
        state: ``PENDING``, ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED`` or ``PRUNED``.
        device: The slot that it was last on.
        step: Optimizer steps done; null before the first was told.
        total: Of how many; null while unknown.
        told_at: When the last step was told (Unix seconds).
        loss: Last training loss.
        samples_per_s: Last throughput; of a finished job over all of its steps.
        memory_gib: Most that its process took so far.
        summary: Results of a finished job.
        error: Why it failed or was ended.
        started_at: When it began first.
        ended_at: When it ended.
        restarts: How often it was started again after its worker died.
        memory_changes: What was done when memory ran out, in order.
        resumed_at: When somebody went on with it last; what was told before is of the time before.
        spool: The file that was made for its events then.
        judged: Its last validation, image by image; null where none was told, as sweeps made earlier have it.
        best_judged: The one of the lowest loss on the same rows.
        lineage: Where it began, of one that took over from another.
    """

    stored: StoredJob
    pack: str
    state: State = "PENDING"
    device: str | None = None
    step: int | None = None
    total: int | None = None
    told_at: float | None = None
    loss: float | None = None
    samples_per_s: float | None = None
    memory_gib: float | None = None
    summary: Summary | None = None
    error: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    restarts: int = 0
    memory_changes: list[str] = field(default_factory=list)
    resumed_at: float | None = None
    spool: str | None = None
    judged: ByItem | None = None
    best_judged: ByItem | None = None
    lineage: Lineage | None = None

    @classmethod
    def of(cls, stored: StoredJob) -> JobState:
        """A job of which nothing was told yet."""
        return cls(stored=stored, pack=stored.pack)

    @property
    def ended(self) -> bool:
        """Whether it has its end."""
        return self.state in ENDED

    @property
    def score(self) -> float | None:
        """What adapters are compared by, as of :attr:`lora_foundry.wire.outcomes.JobOutcome.score`."""
        if self.summary is None or self.state != "FINISHED" or learns_from_all(self.stored.overrides):
            return None
        return self.summary.score

    def outcome(self, sweep_dir: Path) -> JobOutcome:
        """How it ended; one without an end (its launcher was killed) counts as KILLED."""
        return JobOutcome(
            job=self.stored.job,
            name=self.stored.name,
            dir=sweep_dir / self.stored.dir,
            state=self.state if self.ended else "KILLED",
            overrides=self.stored.overrides,
            rank=self.stored.rank,
            summary=self.summary,
            error=self.error if self.ended else None,
            by_item=self._of_its_file(),
            lineage=self.lineage,
        )

    def judged_lines(self) -> list[JudgedLine]:
        """What the journal keeps of its validations when it ends."""
        own = [self.judged] if self.judged == self.best_judged else [self.best_judged, self.judged]
        return [JudgedLine(job=self.stored.job, by_item=one) for one in own if one is not None]

    def _of_its_file(self) -> ByItem | None:
        """The validation that its results are of, the last or the best one; null where neither has their loss."""
        told = self.score
        for one in (self.judged, self.best_judged):
            if told is not None and one is not None and math.isclose(one.mean, told, rel_tol=_AS_ROUNDED):
                return one
        return None


@dataclass(kw_only=True, slots=True)
class SweepState:
    """A sweep and its jobs.

    Attributes:
        jobs: By number, in the order in which they came.
        launcher: The process that took it over last.
        workers: Processes that were started and did not leave, as far as it was told.
        gains: What training together gains, by what that goes for.
        waiting: What it waits for, a line for each device that another sweep has.
        ends: When all should be over (Unix seconds), as its launcher reckoned last; null while unknown.
        settled: Whether nothing began since a launcher came to its end: results, picture and runs are made.
    """

    jobs: dict[int, JobState] = field(default_factory=dict)
    launcher: ProcessMark | None = None
    workers: list[int] = field(default_factory=list)
    gains: dict[str, GainLine] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    ends: float | None = None
    settled: bool = True

    @classmethod
    def of(cls, stored: StoredSweep) -> SweepState:
        """A sweep of which nothing was told yet."""
        return cls(jobs={job.job: JobState.of(job) for job in stored.jobs})

    def outcomes(self, sweep_dir: Path) -> list[JobOutcome]:
        """How its jobs ended."""
        return [job.outcome(sweep_dir) for job in self.jobs.values()]

    def of_jobs(self, numbers: Sequence[int]) -> list[JobState]:
        """Those of ``numbers`` that are of the sweep."""
        return [self.jobs[number] for number in numbers if number in self.jobs]


def fold(state: SweepState, told: JournalLine | Event) -> None:
    """Take in one line of the journal, or one event; what tells nothing of a sweep's state changes nothing."""
    change = _CHANGES.get(type(told))
    if change is not None:
        change(state, told)


def _launcher(state: SweepState, line: LauncherLine) -> None:
    state.launcher = ProcessMark(host=line.host, pid=line.pid, started=line.started)


def _worker(state: SweepState, line: WorkerLine) -> None:
    state.workers = [pid for pid in state.workers if pid != line.pid]
    if line.state == "started":
        state.workers.append(line.pid)


def _pack(state: SweepState, line: PackLine) -> None:
    for job in state.of_jobs(line.jobs):
        job.pack = line.pack


def _resumed(state: SweepState, line: ResumedLine) -> None:
    state.settled = False
    for job in state.of_jobs([line.job]):
        _reopen(job, line.t, line.spool)


def _began(state: SweepState, line: BeganLine) -> None:
    state.settled = False
    for job in state.of_jobs(line.jobs):
        job.device = line.slot
        if job.ended:
            _reopen(job, line.t, None)


def _reopen(job: JobState, at: float, spool: str | None) -> None:
    """It goes on, from where it stood; one that had finished begins anew."""
    if job.summary is not None:
        job.step = job.total = None
    job.state, job.resumed_at, job.spool = "PENDING", at, spool
    job.told_at = job.loss = job.samples_per_s = job.memory_gib = None
    job.summary = job.error = job.ended_at = None


def _job(state: SweepState, line: JobLine | StateEvent) -> None:
    for job in state.of_jobs([line.job]):
        job.state, job.error, job.summary = line.state, line.error, line.summary
        if line.state == "RUNNING":
            job.started_at = job.started_at or line.t
        elif line.state in ENDED:
            job.ended_at = line.t
            _results(job, line.summary)


def _results(job: JobState, told: Summary | None) -> None:
    if told is not None and told.steps is not None:
        job.step = job.total = told.steps
        job.told_at = job.loss = None
        job.samples_per_s, job.memory_gib = told.samples_per_s, told.peak_mem_gib


def _unjournalled(state: SweepState, event: StateEvent) -> None:
    """An end that no launcher was there to journal; other states, and ends of those that have one, are known."""
    if event.state in ENDED and event.job in state.jobs and not state.jobs[event.job].ended:
        _job(state, event)


def _progress(state: SweepState, event: ProgressEvent) -> None:
    for job in state.of_jobs([event.job]):
        if job.summary is None or job.summary.steps is None:
            job.step, job.total, job.told_at = event.step, event.total, event.t
            job.loss, job.samples_per_s, job.memory_gib = event.loss, event.samples_per_s, event.memory_gib


def _judged(state: SweepState, told: JudgedLine | JudgedEvent) -> None:
    for job in state.of_jobs([told.job]):
        if job.ended:
            continue  # what is told late is in no journal
        job.judged, best = told.by_item, job.best_judged
        if best is None or best.rows != told.by_item.rows or told.by_item.mean < best.mean:
            job.best_judged = told.by_item


def _forked(state: SweepState, told: ForkedLine | Forked) -> None:
    for job in state.of_jobs([told.job]):
        job.lineage = told.lineage


def _restart(state: SweepState, line: RestartLine) -> None:
    for job in state.of_jobs(line.jobs):
        job.restarts += 1


def _memory(state: SweepState, line: MemoryLine) -> None:
    for job in state.of_jobs([line.job]):
        job.memory_changes.append(line.rung)


def _gain(state: SweepState, line: GainLine) -> None:
    state.gains[line.key] = line


def _expects(state: SweepState, line: ExpectsLine) -> None:
    state.ends = line.ends


def _waiting(state: SweepState, line: WaitingLine) -> None:
    state.waiting = line.lines


def _ended(state: SweepState, line: EndedLine) -> None:  # noqa: ARG001  # that there is one says it all
    state.settled = True


_CHANGES: dict[type, Callable[[SweepState, Any], None]] = {
    **{LauncherLine: _launcher, WorkerLine: _worker, PackLine: _pack, ResumedLine: _resumed, BeganLine: _began},
    **{JobLine: _job, RestartLine: _restart, MemoryLine: _memory, GainLine: _gain, ExpectsLine: _expects},
    **{WaitingLine: _waiting, EndedLine: _ended, StateEvent: _unjournalled, ProgressEvent: _progress},
    **{JudgedLine: _judged, JudgedEvent: _judged, ForkedLine: _forked, Forked: _forked},
}
