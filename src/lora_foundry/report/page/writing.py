"""``report.html``: one file with all that a person wants to know of a sweep, for any browser and without a network."""

from __future__ import annotations

import json
import math
import re
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lora_foundry.config.files import write_atomic
from lora_foundry.config.logged import RELATIVE
from lora_foundry.config.swept import SEED, short_name
from lora_foundry.report import sweep as picture
from lora_foundry.report.drawings import read_drawings
from lora_foundry.report.page.grid import Grid, grid_of
from lora_foundry.report.page.rows import Shown, heads_of, rows_of
from lora_foundry.report.told import ReportJob, ReportSweep

FILE = "report.html"
LIMIT_BYTES = 15_000_000
"""No report is larger."""
_HERE = Path(__file__).parent
_POINTS = 40_000  # of all curves together: about a megabyte
_FEWEST_POINTS = 20
_BAND = re.compile(r"val/loss_t(?P<low>\d+)_(?P<high>\d+)")
_LOG_FROM = 8.0  # an axis may be logarithmic where the largest value is so many times the smallest


def write_page(sweep_dir: Path, sweep: ReportSweep, *, every_s: float | None = None) -> Path:
    """Write ``report.html`` into the sweep's folder, whole or not at all.

    Args:
        sweep_dir: The folder, which has the pictures.
        sweep: What is told of the sweep.
        every_s: Seconds after which the page loads itself again; null for one that stays as it is.

    Raises:
        OSError: When a picture cannot be read for another reason than what is in it, or the folder cannot be written.
    """
    told, thinned = _data(sweep, every_s)
    rest = len(told.encode()) + sum(len(_own(name)) for name in ("page.css", "page.js", "page.html"))
    grid = grid_of(read_drawings(sweep_dir), sweep, most_bytes=LIMIT_BYTES - 2 * rest)
    target = sweep_dir / FILE
    write_atomic(target, _page(sweep_dir, sweep, grid, told, thinned).encode())
    return target


def _page(sweep_dir: Path, sweep: ReportSweep, grid: Grid, told: str, thinned: int | None) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    best = None if sweep.verdict is None else next(job for job in sweep.jobs if job.job == sweep.verdict.job)
    shown = Shown(sweep, None if best is None else best.job)
    return environment.get_template("page.html").render(
        sweep=sweep,
        title=_title(sweep),
        folder=sweep_dir.name,
        counts=_counts(sweep.jobs),
        created=time.strftime("%d %b %Y %H:%M", time.localtime(sweep.created)),
        kept=None if best is None else best.file,
        broken=[job for job in sweep.jobs if job.state == "FAILED"],
        heads=heads_of(sweep),
        rows=rows_of(shown),
        scored=any(job.relative is not None for job in sweep.jobs),
        parallel=len(_plotted(sweep)) > 1,
        has_curves=bool(sweep.curves),
        bands=len(_bands(sweep)) > 1,
        thinned=thinned,
        grid=grid,
        whole=(sweep_dir / picture.FILE).exists(),
        style=Markup(_own("page.css")),  # noqa: S704  # files of this program
        script=Markup(_own("page.js")),  # noqa: S704
        data=Markup(told),  # noqa: S704  # escaped by _data
    )


def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _counts(jobs: Sequence[ReportJob]) -> str:
    found = Counter(job.state.lower() for job in jobs)
    told = ", ".join(f"{count} {state}" for state, count in found.most_common())
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}: {told}"


def _title(sweep: ReportSweep) -> str:
    what = "Search" if sweep.searched is not None else "Sweep"
    if len(sweep.jobs) == 1:
        return sweep.jobs[0].name
    return f"{what} of {' and '.join(map(short_name, sweep.keys))}" if sweep.keys else what


def _plotted(sweep: ReportSweep) -> list[str]:
    """Swept keys that losses are drawn against: seeds are repeats, unless nothing else was swept."""
    return [key for key in sweep.keys if key != SEED] or list(sweep.keys)


def _data(sweep: ReportSweep, every_s: float | None) -> tuple[str, int | None]:
    """What the page's script draws, as JSON that ends no element; and to how many points curves were thinned."""
    lines = sum(len(jobs) for jobs in sweep.curves.values())
    most = max(_FEWEST_POINTS, _POINTS // max(1, lines))
    thinned = any(len(points) > most for jobs in sweep.curves.values() for points in jobs.values())
    shown = _plotted(sweep)
    told = {
        "id": sweep.id,
        "every": every_s,
        "relative": RELATIVE,
        "short": "loss of base's",
        "best": None if sweep.verdict is None else sweep.verdict.job,
        "keys": [{**_key(key, sweep.jobs), "shown": key in shown} for key in sweep.keys],
        "jobs": [_job(place, job) for place, job in enumerate(sweep.jobs)],
        "settings": [{"name": s.name, "jobs": s.jobs, "mean": s.mean, "spread": s.spread} for s in sweep.settings],
        "against": [] if sweep.verdict is None else [
            {"name": one.name, "percent": one.percent, "low": one.low, "high": one.high}
            for one in sweep.verdict.against
        ],
        "curves": {
            name: {job: [[x, float(f"{y:.5g}")] for x, y in thin(points, most)] for job, points in jobs.items()}
            for name, jobs in sweep.curves.items()
        },
        "bands": _bands(sweep),
        "searched": _searched(sweep),
    }  # fmt: skip
    text = json.dumps(told, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"), most if thinned else None


def _bands(sweep: ReportSweep) -> list[dict[str, object]]:
    """The last loss of each band of timesteps over what it was before the first step, of jobs that were judged then."""
    found: list[tuple[int, dict[str, object]]] = []
    for name, jobs in sweep.curves.items():
        band = _BAND.fullmatch(name)
        shares = {
            job: float(f"{points[-1][1] / points[0][1]:.5g}")
            for job, points in jobs.items()
            if len(points) > 1 and points[0][0] == 0 and points[0][1] > 0
        }
        if band is not None and shares:
            low, high = int(band["low"]), int(band["high"])
            found.append((low, {"name": f"{low} to {high}", "jobs": shares}))
    return [band for _, band in sorted(found, key=lambda one: one[0])]


def thin(points: Sequence[tuple[int, float]], most: int) -> Sequence[tuple[int, float]]:
    """At most so many of a curve's points, evenly, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def _job(place: int, job: ReportJob) -> Mapping[str, object]:
    """``place`` decides on a colour: it stays, however jobs are sorted or switched off."""
    own = {"job": job.job, "name": job.name, "state": job.state, "place": place}
    return {**own, "values": dict(job.values), "relative": job.relative}


def _key(key: str, jobs: Sequence[ReportJob]) -> dict[str, object]:
    numbers = [_number(job.values[key]) for job in jobs if key in job.values]
    found = [one for one in numbers if one is not None]
    are = len(found) == len(numbers)
    return {"key": key, "short": short_name(key), "numbers": are, "log": are and _is_spread_by_factors(set(found))}


def _is_spread_by_factors(values: set[float]) -> bool:
    """Whether the middle value lies in the middle of the logarithms rather than of the values themselves."""
    low, high, middle = min(values), max(values), statistics.median(values)
    if low <= 0 or high / low < _LOG_FROM:
        return False
    by_size = (middle - low) / (high - low)
    by_factor = math.log(middle / low) / math.log(high / low)
    return abs(by_factor - 0.5) < abs(by_size - 0.5)  # the middle


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _searched(sweep: ReportSweep) -> dict[str, object] | None:
    found = sweep.searched
    if found is None:
        return None
    return {
        "objectives": found.objectives,
        "directions": found.directions,
        "told": {job: list(values) for job, values in found.told.items()},
        "front": found.front,
        "importance": dict(found.importance),
    }
