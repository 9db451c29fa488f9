"""Every sweep and job below a folder, as files tell it: while sweeps run, afterwards, and without MLflow.

Reads ``sweep.json``, ``journal.jsonl``, ``verdict.json`` and the ends of the spools, nothing else, and imports little:
a thousand jobs are listed in under a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.errors import SweepError
from lora_foundry.judge.ranking import best_of
from lora_foundry.launch.records.journal import is_held
from lora_foundry.launch.records.reading import read_state
from lora_foundry.launch.records.record import StoredSweep, read_sweep, sweep_dirs
from lora_foundry.launch.records.state import JobState, SweepState
from lora_foundry.wire.outcomes import FOLD
from lora_foundry.wire.verdict import Verdict, read_verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep as somebody finds it who does not work in it.

    Attributes:
        dir: Its folder.
        stored: Its record.
        state: Its state.
        running: Whether a launcher or a worker holds it.
    """

    dir: Path
    stored: StoredSweep
    state: SweepState
    running: bool

    @property
    def jobs(self) -> list[JobState]:
        """Its jobs, in order of number."""
        return [self.state.jobs[number] for number in sorted(self.state.jobs)]

    @property
    def verdict(self) -> Verdict | None:
        """What was found at its end; null while it runs."""
        return None if self.running else read_verdict(self.dir)

    @property
    def best(self) -> str | None:
        """The name of its best job; null of a sweep of one, or where none can be compared."""
        if self.verdict is not None:
            return self.verdict.name
        folds = any(FOLD in job.stored.overrides for job in self.jobs)  # each is judged on other images
        first = best_of(self.jobs) if len(self.jobs) > 1 and not folds else None
        return None if first is None else first.stored.name

    @property
    def waiting(self) -> tuple[str, ...]:
        """What a running sweep waits for, a line for each device that another sweep has."""
        return self.state.waiting if self.running else ()

    @property
    def ends(self) -> float | None:
        """When a running sweep should be over (Unix seconds); null while unknown."""
        return self.state.ends if self.running else None

    def word(self, job: JobState) -> str:
        """The state of a job, or ``LOST``: it has no end, and nobody is there any more who would bring it to one."""
        return job.state if job.ended or self.running else "LOST"


def read_ledger(root: Path, unread: list[str] | None = None) -> list[Sweep]:
    """All sweeps below ``root``, newest first; what cannot be read is left out.

    Args:
        root: Where they lie.
        unread: Takes a line for each sweep that is left out.
    """
    found = []
    for folder in sweep_dirs(root):
        try:
            found.append(sweep_at(folder))
        except SweepError as error:
            if unread is not None:
                unread.extend(error.problems)
    return found


def sweep_at(folder: Path) -> Sweep:
    """One sweep as it is now.

    Raises:
        SweepError: When it cannot be read, or a newer version of this program wrote it.
    """
    stored, running = read_sweep(folder), is_held(folder)
    return Sweep(dir=folder, stored=stored, state=read_state(folder, stored=stored, running=running), running=running)


def columns(sweeps: Sequence[Sweep]) -> Iterator[dict[str, object]]:
    """The jobs as plain values, for JSON and CSV."""
    for sweep in sweeps:
        for job in sweep.jobs:
            told = job.summary
            yield {
                "sweep": sweep.stored.id,
                "job": job.stored.job,
                "name": job.stored.name,
                "dir": job.stored.dir,
                "state": sweep.word(job),
                "device": job.device,
                "step": job.step,
                "total": job.total,
                "samples_per_s": job.samples_per_s,
                "memory_gib": job.memory_gib,
                "val_loss": None if told is None else told.val_loss,
                "val_loss_rel": None if told is None else told.val_loss_rel,
                "started": job.started_at,
                "ended": job.ended_at,
                "restarts": job.restarts,
                "memory_changes": job.memory_changes,
                "forked_from": None if job.lineage is None else job.lineage.name,
                "forked_at_samples": None if job.lineage is None else job.lineage.samples,
                "error": job.error,
            }
