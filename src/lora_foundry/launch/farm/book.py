"""A sweep's folder while its launcher has it: record, folders of jobs and journal, which grow as jobs come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lora_foundry.config.errors import SweepError
from lora_foundry.config.longer import Length, write_length
from lora_foundry.config.warned import tags_of
from lora_foundry.launch.plan.packing import PackPlan, Plan
from lora_foundry.launch.points.point import Point
from lora_foundry.launch.records.folders import add_jobs, create_sweep, write_jobs
from lora_foundry.launch.records.journal import Journal, SweepBusyError
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.reading import read_state
from lora_foundry.launch.records.record import StoredSweep, write_sweep
from lora_foundry.launch.records.state import JobState
from lora_foundry.launch.records.stored_jobs import read_stored_config
from lora_foundry.tracking.records import JobRecord
from lora_foundry.wire.journal import PackLine, SweepLine
from lora_foundry.wire.outcomes import JobOutcome

_PACK = re.compile(r"pack-(\d+)")


class Book:
    """The open books of one sweep; holding them means owning its folder.

    Attributes:
        folder: The sweep's.
        record: What ``sweep.json`` has.
        journal: Open.
    """

    def __init__(self, folder: Path, record: StoredSweep, journal: Journal) -> None:
        self.folder = folder
        self.record = record
        self.journal = journal
        journal.sign()

    @classmethod
    def begin(cls, folder: Path, sweep_id: str) -> Book:
        """Of a new sweep.

        Raises:
            SweepError: When the folder holds one already, or cannot be written.
        """
        record = create_sweep(folder, sweep_id)
        return cls(folder, record, Journal(folder))

    @classmethod
    def reopen(cls, folder: Path, record: StoredSweep) -> Book:
        """Of a sweep that was left, in the state in which it was left.

        Raises:
            SweepError: When another process works in it, or it cannot be read.
        """
        try:
            book = cls(folder, record, Journal(folder))
        except SweepBusyError as error:
            raise SweepError([f"resume: {error}"]) from error
        try:
            book.journal.state = read_state(folder, stored=record)
        except BaseException:
            book.journal.close()
            raise
        return book

    def enter(self, points: Sequence[Point], jobs: Sequence[JobRecord]) -> list[LiveJob]:
        """Write the folders of new jobs and enter them in the record.

        Raises:
            SweepError: When something cannot be written.
        """
        try:
            write_jobs(points, [job.name for job in jobs])
            self.record = add_jobs(self.folder, self.record, jobs)
        except OSError as error:
            msg = f"{self.folder} cannot be written ({error.strerror}); free some space, or give another folder"
            raise SweepError([msg]) from error
        state, new = self.journal.state, {job.index for job in jobs}
        state.jobs |= {one.job: JobState.of(one) for one in self.record.jobs if one.job in new}
        return [self.live(job) for job in jobs]

    def lengthen(self, job: JobRecord, length: Length) -> None:
        """Let a job train so long, and let no command find it again that asks for another length from the beginning.

        Raises:
            SweepError: When that cannot be written.
        """
        entries = tuple(replace(one, config=None) if one.job == job.index else one for one in self.record.jobs)
        try:
            write_length(job.dir, length, read_stored_config(job.dir))
            self.record = replace(self.record, jobs=entries)
            write_sweep(self.folder, self.record)
        except OSError as error:
            self.journal.close()
            raise SweepError([f"{self.folder} cannot be written ({error.strerror})"]) from error

    def live(self, job: JobRecord, *, resume: bool = False) -> LiveJob:
        """A job of the record as the farm has it."""
        return LiveJob(record=job, now=self.journal.state.jobs[job.index], resume=resume)

    def tell(self, jobs: Iterable[int], packs: Sequence[PackPlan], seconds: Sequence[float]) -> None:
        """Journal jobs that came, and what they are planned to train in."""
        self.journal.write(SweepLine(id=self.record.id, jobs=tuple(sorted(jobs))))
        self.tell_packs(packs, seconds)

    def tell_packs(self, packs: Sequence[PackPlan], seconds: Sequence[float]) -> None:
        """Journal packs and what they should take."""
        for pack, predicted in zip(packs, seconds, strict=True):
            line = PackLine(pack=pack.name, jobs=pack.jobs, rows=pack.rows, predicted_s=round(predicted, 1))
            self.journal.write(line)

    def next_pack(self) -> int:
        """The number of the next pack, so that none has the name of an earlier one."""
        names = [job.pack for job in self.journal.state.jobs.values()]
        names += [path.stem for path in self.folder.glob("spool/*")]
        return max((int(found[1]) for name in names if (found := _PACK.match(name))), default=-1) + 1

    def outcome(self, job: int) -> JobOutcome:
        """How a job ended, or stands."""
        return self.journal.state.jobs[job].outcome(self.folder)

    def outcomes(self) -> list[JobOutcome]:
        """The same of all of the sweep's."""
        return self.journal.state.outcomes(self.folder)


def records_of(points: Sequence[Point], names: Sequence[str], plan: Plan) -> list[JobRecord]:
    """Jobs as the record has them, named and planned."""
    return [
        JobRecord(
            index=point.index,
            name=name,
            dir=point.dir,
            config=point.config,
            overrides=point.overrides(),
            in_files=point.in_files(),
            pack=plan.pack_of(point.index).name,
            warnings=tags_of(point.warnings),
            fork=point.fork,
        )
        for point, name in zip(points, names, strict=True)
    ]
