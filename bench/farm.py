"""A thousand jobs: what launcher and MLflow take for each, the ledger, the plan, and a second pack on a warm slot."""

from __future__ import annotations

import itertools
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.example import run_timed
from bench.measure import Claim, Result, Table, arguments, median
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.farm.ground import Ground
from lora_foundry.launch.plan.budget import Forecast, NoForecast
from lora_foundry.launch.points.offline import compose_all
from lora_foundry.launch.records.journal import read_journal
from lora_foundry.wire.events import WORKER_EVENTS, LogEvent, PackEnded, PackStarted, read_events
from lora_foundry.wire.journal import BeganLine
from lora_foundry.wiring.forecast import TracedForecast

JOB_MS, STATUS_S, PLAN_S, WARM_S = 250.0, 1.0, 5.0, 0.5
START_S, FIRST_MS = 1.0, 20.0  # until the first pack is sent: a start, and each job's check (no number is asked for)
GAP_S, LONG_GAP_S = 0.1, 0.5
SHARE = "hydra.launcher.share=true"  # another sweep on this machine is no reason to wait
ONE_SLOT = "hydra.launcher.slots=1"  # its packs follow one another, and what lies between them is measured
IDLE_WORKER = f"hydra.launcher.worker_command=[{sys.executable},-m,bench.idle_worker]"
GRID = ("lora.rank=4,8,16,32", "data.batch_size=1,2,4", "optimizer.lr=1e-4,5e-4,1e-3")  # 36 points a seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """What a sweep of jobs that train nothing took, in seconds.

    Attributes:
        total: From the command to its end.
        first_pack: From the command until the first pack was sent.
        trained: From there until the last pack ended.
        gaps: From the end of each pack to the start of the next, on the one slot.
    """

    total: float
    first_pack: float
    trained: float
    gaps: list[float]


def launch(count: int, folder: Path) -> Launched:
    """Run ``count`` jobs through launcher and MLflow, with a worker that trains nothing.

    Raises:
        RuntimeError: When a job or a run is not FINISHED at the end.
    """
    sweep = folder / "sweep"
    words = [f"seed={','.join(map(str, range(count)))}", "sample=none", f"data.cache_dir={folder / 'cache'}"]
    words += [f"tracking.root={folder / 'mlruns'}", f"hydra.sweep.dir={sweep}", IDLE_WORKER, SHARE, ONE_SLOT, "-m"]
    started = time.time()
    total = run_timed([sys.executable, "-m", "src.train", *words], folder=folder)
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as store:
        (runs,) = store.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone()
    if runs != count + 1:
        msg = f"{runs} of {count} runs and the sweep's own are FINISHED in MLflow"
        raise RuntimeError(msg)
    began = min(line.t for line in read_journal(sweep) if isinstance(line, BeganLine))
    told = [event for spool in (sweep / "spool").glob("*.jsonl") for event in read_events(spool)[0]]
    told = sorted((event for event in told if isinstance(event, WORKER_EVENTS)), key=lambda event: event.t)
    gaps = [
        later.t - earlier.t
        for earlier, later in itertools.pairwise(told)
        if isinstance(earlier, PackEnded) and isinstance(later, PackStarted)
    ]
    return Launched(total=total, first_pack=began - started, trained=told[-1].t - began, gaps=gaps)


def status_s(folder: Path, rounds: int) -> list[float]:
    """Seconds of ``python -m src.status``, the whole process."""
    command = [sys.executable, "-m", "src.status", str(folder / "sweep")]
    return [run_timed(command, folder=folder) for _ in range(rounds)]


def planning_s(count: int, folder: Path) -> dict[str, float]:
    """Seconds of composing one job, and of planning all of them: without forecasts, with new ones, with kept ones."""
    words = [*GRID, f"seed=range(0,{-(-count // 36)})", f"data.cache_dir={folder / 'cache'}"]
    start = time.perf_counter()
    configs = {point.index: point.config for point in compose_all(words)[:count]}
    found = {"compose": (time.perf_counter() - start) / len(configs)}
    plans: dict[str, tuple[Settings, Forecast]] = {
        "plan": (Settings(), NoForecast()),
        "traced": (Settings(plan_only=True, slots=4), TracedForecast()),
        "forecast": (Settings(plan_only=True, slots=4), TracedForecast()),
    }
    for name, (settings, forecast) in plans.items():
        start = time.perf_counter()
        Ground.of(settings, list(configs.values()), forecast).plan(configs)
        found[name] = time.perf_counter() - start
    return found


def warm_s(folder: Path) -> float:
    """Seconds from sending a second pack of four to its first step, on the slot that trained the first."""
    sweep = folder / "sweep"
    words = ["seed=0,1,2,3", "trainer.gradient_checkpointing=false,true", "trainer.max_steps=20"]  # two packs, one base
    words += [f"data.cache_dir={folder / 'cache'}", f"tracking.root={folder / 'mlruns'}", f"hydra.sweep.dir={sweep}"]
    run_timed([sys.executable, "-m", "src.train", *words, SHARE, ONE_SLOT, "-m"], folder=folder)
    sent = [(line.t, line.pack) for line in read_journal(sweep) if isinstance(line, BeganLine)]
    began, pack = max(sent)
    events = read_events(sweep / "spool" / f"{pack}.jsonl")[0]
    steps = [event.t for event in events if isinstance(event, LogEvent) and event.message == "training"]
    if len(sent) != 2 or not steps:
        msg = f"two packs and their first steps were expected, got {len(sent)} packs and {len(steps)} first steps"
        raise RuntimeError(msg)
    return float(min(steps) - began)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 1000) * len(ordered) // 1000) - 1)]


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--jobs", type=int, default=None, help="jobs of the sweep (1000)")
    options = parser.parse_args()
    count = options.jobs or (60 if options.quick else 1000)
    rounds = options.rounds or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as name:
        folders = {part: Path(name) / part for part in ("launched", "planned", *map(str, range(rounds)))}
        for folder in folders.values():
            folder.mkdir()
        launched = launch(count, folders["launched"])
        status = status_s(folders["launched"], max(3, rounds))
        planned = planning_s(count, folders["planned"])
        warm = [warm_s(folders[str(number)]) for number in range(rounds)]
    judge(count, launched, status, planned, warm, quick=options.quick).save()


def judge(
    count: int, launched: Launched, status: list[float], planned: dict[str, float], warm: list[float], *, quick: bool
) -> Result:
    """Hold the seconds against their limits."""
    each, first = launched.total / count * 1e3, launched.first_pack
    gap, long_gap = statistics.median(launched.gaps), percentile(launched.gaps, 0.99)
    figures = [
        (f"{count} jobs without training, each", each, JOB_MS, "ms", "at most"),
        (f"{count} jobs checked and the first pack sent", first, START_S + count * FIRST_MS / 1e3, "s", "at most"),
        ("a slot waits for its next pack, median", gap, GAP_S, "s", "at most"),
        ("a slot waits for its next pack, 99 of 100", long_gap, LONG_GAP_S, "s", "at most"),
        (f"`python -m src.status` of {count} jobs", median(status), STATUS_S, "s", "under"),
        (f"planning {count} composed jobs", planned["plan"], PLAN_S, "s", "under"),
        (f"planning {count} composed jobs with memory forecasts", planned["forecast"], PLAN_S, "s", "under"),
        ("second pack on a warm slot, to its first step", max(warm), WARM_S, "s", "within"),
    ]
    claims = [
        Claim(what=what, measured=shown(value, unit), limit=f"{word} {limit:g} {unit}", holds=value <= limit)
        for what, value, limit, unit, word in figures
    ]
    after = launched.total - launched.first_pack - launched.trained
    rows = [
        ["checking and planning, until the first pack is sent", shown(first, "s"), shown(first / count * 1e3, "ms")],
        ["packs", shown(launched.trained, "s"), shown(launched.trained / count * 1e3, "ms")],
        ["the rest of MLflow, results and picture", shown(after, "s"), shown(after / count * 1e3, "ms")],
        ["all", shown(launched.total, "s"), shown(each, "ms")],
    ]
    plans = [
        ["composing one job and checking it", shown(planned["compose"] * 1e3, "ms")],
        ["without forecasts", shown(planned["plan"], "s")],
        ["with memory forecasts, four slots, kinds of steps traced anew", shown(planned["traced"], "s")],
        ["with memory forecasts, four slots, traces kept", shown(planned["forecast"], "s")],
    ]
    return Result(
        name="farm",
        title="A thousand jobs",
        how=(
            f"{count} jobs through the launcher, with MLflow in a new sqlite database and a worker that trains nothing "
            "and tells what a real one would: tags, states, progress, three rows of metrics and a file a job. A slot "
            "waits from the end of a pack to the start of the next, as the worker saw them; composing, the journal and "
            "MLflow's writer go on beside it. The second pack is a real one: four adapters on the embedded base with "
            "pictures and tracking, from the command that is sent to the worker to the first step (the slowest of "
            f"{len(warm)}). Plans are of the product of ranks, batch sizes, learning rates and seeds."
        ),
        quick=quick,
        claims=claims,
        tables=[
            Table(title=f"{count} jobs without training", columns=["part", "seconds", "each"], rows=rows),
            Table(title=f"Planning {count} jobs", columns=["plan", "time"], rows=plans),
        ],
    )


def shown(value: float, unit: str) -> str:
    """With its unit, to three digits."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


if __name__ == "__main__":
    main()
