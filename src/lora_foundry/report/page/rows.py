"""The table of a report: what stands in each cell, and what it is sorted by."""

from __future__ import annotations

from dataclasses import dataclass

from lora_foundry.config.logged import RELATIVE
from lora_foundry.config.swept import short_name
from lora_foundry.report.told import ReportJob, ReportSweep

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column.

    Attributes:
        name: What stands there.
        about: What it means.
        number: Whether its values are numbers, which stand at the right.
    """

    name: str
    about: str
    number: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Attributes:
        text: What stands there.
        by: What it is sorted by; nothing where there is no value.
        number: Whether it stands at the right.
        about: More of it, for who points at it.
    """

    text: str
    by: object
    number: bool = True
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A job's row.

    Attributes:
        job: Its number.
        state: Its state.
        best: Whether it is the one to keep.
        cells: One for each head.
    """

    job: int
    state: str
    best: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What rows are made of.

    Attributes:
        sweep: The sweep.
        best: The number of the job to keep; null where nothing can be compared.
    """

    sweep: ReportSweep
    best: int | None


def heads_of(sweep: ReportSweep) -> tuple[Head, ...]:
    """Name, what was swept, what came of it."""
    return (
        Head("name", "the adapter's name", number=False),
        *(Head(short_name(key), key) for key in sweep.keys),
        Head("of base's", "validation loss over the base's own, of the best adapter"),
        Head("val loss", "validation loss of the best adapter"),
        Head("best step", "optimizer steps of the best adapter, of how many"),
        Head("MiB", "size of the adapter's file"),
        Head("seconds", "of training"),
        Head("GiB", "most memory that the process took, with all that trained in it"),
        Head("state", "how it ended, or how far it is", number=False),
    )


def rows_of(shown: Shown) -> list[Row]:
    """The lowest loss first, then what was measured last of those that have none, then the others."""
    last = shown.sweep.curves.get(RELATIVE, {})

    def order(job: ReportJob) -> tuple[bool, float, bool, float, int]:
        open_end = last[job.job][-1][1] if job.job in last else None
        return (job.relative is None, job.relative or 0.0, open_end is None, open_end or 0.0, job.job)

    return [_row(shown, job) for job in sorted(shown.sweep.jobs, key=order)]


def _row(shown: Shown, job: ReportJob) -> Row:
    best = job.job == shown.best
    state = job.state.lower()
    cells = (
        Cell(f"{job.name} *" if best else job.name, job.name, number=False, about=job.file or ""),
        *(Cell(job.values.get(key, ""), job.values.get(key, "")) for key in shown.sweep.keys),
        _relative(shown.sweep, job),
        _told(job.loss, ".4f"),
        _steps(job),
        _told(None if job.size is None else job.size / _MIB, ".2f"),
        _told(job.seconds, ",.0f"),
        _told(job.memory_gib, ".2f"),
        Cell(state, state, number=False, about=job.error or job.note or ""),
    )
    return Row(job=job.job, state=job.state, best=best, cells=cells)


def _relative(sweep: ReportSweep, job: ReportJob) -> Cell:
    if job.relative is not None:
        return _told(job.relative, ".4f")
    points = sweep.curves.get(RELATIVE, {}).get(job.job)
    if not points:
        return _told(None, "")
    samples, value = points[-1]
    return Cell(f"({value:.4f})", value, about=f"the last that was measured, after {samples} samples")


def _steps(job: ReportJob) -> Cell:
    if job.best_step is not None:
        return Cell(f"{job.best_step} / {job.step}" if job.step else str(job.best_step), job.best_step)
    if job.step is None:
        return _told(None, "")
    return Cell(f"at {job.step} / {job.total}" if job.total else f"at {job.step}", job.step)


def _told(value: float | None, form: str) -> Cell:
    return Cell("", "") if value is None else Cell(format(value, form), value)
