"""The pictures of a report: prompts and seeds down, the base and the members across, in the file itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lora_foundry.report.drawings import Drawing
from lora_foundry.report.tiles import fitted, opened
from lora_foundry.report.told import ReportJob, ReportSweep

_LARGEST, _SMALLEST = 512, 32
_SHOWN_MOST, _SHOWN_LEAST = 220, 128
_SMALLER = 0.8
_BYTES_A_PIXEL = 0.35  # of JPEG at this quality, of drawings; only how large the first try is depends on it
_QUALITY = 88
_OF_BASE64 = 3 / 4


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the grid.

    Attributes:
        place: Its number, from 0.
        prompt: What was asked for.
        seed: Of the starting noise.
    """

    place: int
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the grid.

    Attributes:
        job: The job's number; null for the base.
        title: What is shown.
        note: The line below it.
        best: Whether it is the one to keep.
        pictures: ``data:`` addresses, one for each row; null where there is no picture.
    """

    job: int | None
    title: str
    note: str
    best: bool
    pictures: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """All of them.

    Attributes:
        rows: None where nothing was drawn.
        columns: The base, then the jobs by number.
        seeds: Whether rows differ in their seeds.
        side: Pixels that a picture is shown at.
    """

    rows: tuple[Line, ...] = ()
    columns: tuple[Column, ...] = ()
    seeds: bool = False
    side: int = _SHOWN_LEAST


def grid_of(drawings: Sequence[Drawing], sweep: ReportSweep, *, most_bytes: int) -> Grid:
    """The grid of a sweep's last drawings, at the highest scale of each job.

    Args:
        drawings: What was drawn.
        sweep: The sweep.
        most_bytes: What all ``data:`` addresses together may take; pictures are made smaller until they do.
    """
    if not drawings:
        return Grid()
    rows = list(dict.fromkeys((drawing.prompt, drawing.seed) for drawing in drawings))
    paths = {None: _base(drawings)} | {job.job: _own(drawings, job.job) for job in sweep.jobs}
    needed = dict.fromkeys(path for cells in paths.values() for path in cells.values())
    pictures, side = embedded(needed, most_bytes)
    best = None if sweep.verdict is None else sweep.verdict.job
    jobs = {job.job: job for job in sweep.jobs}
    columns = [
        Column(
            job=job,
            title="base" if job is None else jobs[job].name,
            note="no adapter" if job is None else _note(jobs[job]),
            best=job is not None and job == best,
            pictures=tuple(pictures.get(cells[row]) if row in cells else None for row in rows),
        )
        for job, cells in paths.items()
        if cells
    ]
    return Grid(
        rows=tuple(Line(place, prompt, seed) for place, (prompt, seed) in enumerate(rows)),
        columns=tuple(columns),
        seeds=len({seed for _, seed in rows}) > 1,
        side=min(_SHOWN_MOST, max(_SHOWN_LEAST, side)),
    )


def embedded(paths: Iterable[Path], most_bytes: int) -> tuple[dict[Path, str], int]:
    """Pictures as ``data:`` addresses that take at most ``most_bytes`` together, and the larger side of the largest.

    One that is gone or is no picture is left out.
    """
    every = list(paths)
    budget = int(most_bytes * _OF_BASE64)
    side = min(_LARGEST, int((budget / (_BYTES_A_PIXEL * max(1, len(every)))) ** 0.5))
    while side >= _SMALLEST:
        found = _encoded(every, side, budget)
        if found is not None:
            largest = max((size for _, size in found.values()), default=_SHOWN_LEAST)
            return {path: address for path, (address, _) in found.items()}, largest
        side = int(side * _SMALLER)
    return {}, _SHOWN_LEAST


def _encoded(paths: Sequence[Path], side: int, budget: int) -> dict[Path, tuple[str, int]] | None:
    """Address and larger side of each; null as soon as they are over the budget."""
    found, taken = {}, 0
    for path in paths:
        picture = opened(path)
        if picture is None:
            continue
        small = fitted(picture, min(side, max(picture.size)))
        content = _jpeg(small)
        taken += len(content)
        if taken > budget:
            return None
        found[path] = (f"data:image/jpeg;base64,{base64.b64encode(content).decode()}", max(small.size))
    return found


def _jpeg(picture: Image.Image) -> bytes:
    """Colours at full resolution: drawings have hard edges between strong ones."""
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=_QUALITY, subsampling=0)
    return content.getvalue()


def _base(drawings: Sequence[Drawing]) -> Mapping[tuple[str, int], Path]:
    """Every job draws the same base; the first that has the file is as good as any."""
    cells: dict[tuple[str, int], Path] = {}
    for drawing in drawings:
        if drawing.scale == 0.0:
            cells.setdefault((drawing.prompt, drawing.seed), drawing.path)
    return cells


def _own(drawings: Sequence[Drawing], job: int) -> Mapping[tuple[str, int], Path]:
    own = [drawing for drawing in drawings if drawing.job == job and drawing.scale > 0.0]
    top = max((drawing.scale for drawing in own), default=0.0)
    return {(drawing.prompt, drawing.seed): drawing.path for drawing in own if drawing.scale == top}


def _note(job: ReportJob) -> str:
    return job.state.lower() if job.relative is None else f"{job.relative:.4f} of base"
