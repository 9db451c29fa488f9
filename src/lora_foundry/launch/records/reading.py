"""The state of a sweep as its folder tells it: the record, the journal, and what the spools have beside it."""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from lora_foundry.launch.records.journal import read_journal
from lora_foundry.launch.records.record import StoredSweep, read_sweep
from lora_foundry.launch.records.state import JobState, SweepState, fold
from lora_foundry.wire.events import EVENTS, Event, JudgedEvent, MetricsEvent, ProgressEvent, StateEvent, TagsEvent
from lora_foundry.wire.journal import JournalLine
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.states import ENDED

_TAIL_BYTES = 512 * 1024
_JOB = re.compile(rb'"job": *(\d+)')
_STATE = b'"kind": "state"'
_JUDGED = b'"kind": "judged"'
_METRICS = b'"kind": "metrics"'
_TAGS = b'"kind": "tags"'
E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class _Spool:
    """A worker's events, unread.

    Attributes:
        name: Of the file.
        data: Its whole lines, of one that is followed those of its end.
    """

    name: str
    data: bytes

    @classmethod
    def of(cls, path: Path, *, whole: bool) -> _Spool:
        """What there is; nothing of a file that cannot be read."""
        try:
            with path.open("rb") as file:
                file.seek(0 if whole else max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                data = file.read()
        except OSError:
            data = b""
        return cls(path.name, data[: data.rfind(b"\n") + 1])

    def last_steps(self, jobs: set[int]) -> Iterator[ProgressEvent]:
        """The last that its end tells of how far each of the ``jobs`` is."""
        left = set(jobs)
        for line in reversed(self.data[-_TAIL_BYTES:].splitlines()):
            if not left:
                return
            number = _JOB.search(line) if b'"progress"' in line else None
            if number is None or int(number[1]) not in left:
                continue
            event = EVENTS.read(line)  # none where the end of the file began inside it
            if isinstance(event, ProgressEvent) and event.job in left:
                left.discard(event.job)
                yield event

    def states(self) -> Iterator[StateEvent]:
        """What it tells of jobs' states."""
        return (event for event in self._of_kind(_STATE) if isinstance(event, StateEvent))

    def judged(self) -> Iterator[JudgedEvent]:
        """Its validations, image by image."""
        return (event for event in self._of_kind(_JUDGED) if isinstance(event, JudgedEvent))

    def _of_kind(self, kind: bytes) -> Iterator[Event]:
        """Other lines are not looked at."""
        at = self.data.find(kind)
        while at >= 0:
            end = self.data.find(b"\n", at)
            event = EVENTS.read(self.data[self.data.rfind(b"\n", 0, at) + 1 : end])
            if event is not None:
                yield event
            at = self.data.find(kind, end)


def read_state(sweep_dir: Path, *, stored: StoredSweep | None = None, running: bool = False) -> SweepState:
    """The state of a sweep.

    Args:
        sweep_dir: Its folder.
        stored: Its record, where that was read already.
        running: Whether somebody works in it, who journals ends as they come: then no more than the last part of each
            spool is read, which tells how far the jobs are, and of validations image by image the last ones.

    Raises:
        SweepError: When the sweep cannot be read, or a newer version of this program wrote it.
    """
    record = read_sweep(sweep_dir) if stored is None else stored
    lines = read_journal(sweep_dir)
    state = _folded(record, lines)
    if all(_is_told(job) for job in state.jobs.values()):
        return state
    unended = {number: job for number, job in state.jobs.items() if not job.ended}
    whole = bool(unended) and not running
    spools = [_Spool.of(path, whole=whole) for path in sorted(sweep_dir.glob("spool/*.jsonl"))]
    untold = {number for number, job in state.jobs.items() if not _is_told(job)}
    progress = sorted((one for spool in spools for one in spool.last_steps(untold)), key=lambda event: event.t)
    judged = (one for spool in spools for one in spool.judged() if one.job in unended) if unended else ()
    told = sorted([*progress, *judged], key=lambda event: event.t)
    ends = _ends(spools, unended) if unended else []
    return _folded(record, _by_time(lines, told), ends)


def read_results(sweep_dir: Path) -> list[JobOutcome]:
    """How every job of a sweep ended that nobody works in; one without an end counts as KILLED.

    Raises:
        SweepError: When the sweep cannot be read.
    """
    return read_state(sweep_dir).outcomes(sweep_dir)


def measured(sweep_dir: Path) -> list[MetricsEvent]:
    """All that workers told of what they measured, in the order of time."""
    return _all_of(sweep_dir, _METRICS, MetricsEvent)


def tagged(sweep_dir: Path) -> list[TagsEvent]:
    """All tags that workers told, in the order of time."""
    return _all_of(sweep_dir, _TAGS, TagsEvent)


def _all_of(sweep_dir: Path, mark: bytes, kind: type[E]) -> list[E]:
    """Events of a kind; lines without its mark are not looked at, and there may be a million of them."""
    found = []
    for path in sorted(sweep_dir.glob("spool/*.jsonl")):
        for line in _Spool.of(path, whole=True).data.splitlines():
            event = EVENTS.read(line) if mark in line else None
            if isinstance(event, kind):
                found.append(event)
    return sorted(found, key=lambda event: event.t)


def _is_told(job: JobState) -> bool:
    """Whether the journal says all of a job: one that ended and told its steps, or never began."""
    return job.ended and (job.device is None or (job.summary is not None and job.summary.steps is not None))


def _folded(record: StoredSweep, *told: Iterable[JournalLine | Event]) -> SweepState:
    state = SweepState.of(record)
    for lines in told:
        for line in lines:
            fold(state, line)
    return state


def _by_time(lines: Sequence[JournalLine], events: Sequence[Event]) -> Iterator[JournalLine | Event]:
    """All in the order of time; the lines in their own where a clock was set back."""
    latest = accumulate((line.t for line in lines), max)
    first = ((at, 0, place) for place, at in enumerate(latest))
    second = ((event.t, 1, place) for place, event in enumerate(events))
    for _, kind, place in heapq.merge(first, second):
        yield events[place] if kind else lines[place]


def _ends(spools: Sequence[_Spool], unended: Mapping[int, JobState]) -> list[StateEvent]:
    """Ends that a worker told and a killed launcher did not journal: the first of a spool, of the latest spool.

    A later spool's FINISHED counts whatever its time: by a clock that was set back it may seem the earlier one.
    """
    found: dict[int, StateEvent] = {}
    for spool in spools:
        ends: dict[int, StateEvent] = {}
        for event in spool.states():
            if event.state not in ENDED or event.job not in unended:
                continue
            job = unended[event.job]
            if job.resumed_at is None or event.t >= job.resumed_at or spool.name == job.spool:
                ends.setdefault(event.job, event)
        for number, end in ends.items():
            if number not in found or end.t >= found[number].t or end.state == "FINISHED":
                found[number] = end
    return list(found.values())
