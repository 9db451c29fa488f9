"""What tracking, progress and checkpoints cost of a step, and what Lightning does."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from bench import PROJECT_ROOT
from bench.example import Training
from bench.foundry import run_sweep
from bench.measure import Claim, Result, Table, arguments, median
from lora_foundry.wire.events import ProgressEvent, read_events

JOBS, LIMIT = 4, 0.03
NOTHING = ("tracking=none", "trainer.log_every=1000000", "trainer.checkpoint_s=1000000")
CHECKPOINT_S = 20.0  # three times as often as the default, since the run is shorter than its minute


def bare_step_s(steps: int) -> float:
    """Seconds a step of the pack in a loop of its own: no Lightning, no callbacks, no files."""
    from bench.toy import Shape, load_denoiser, pack_step  # the other arms need no torch here

    step = pack_step(load_denoiser(), [Shape(batch=1)] * JOBS, "lora.target_modules=attention")
    for _ in range(5):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def bare_apart_s(steps: int) -> float:
    """:func:`bare_step_s` in a process of its own."""
    command = [sys.executable, "-m", "bench.overhead", "--bare", str(steps)]
    return float(subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout)


def trained_step_s(steps: int, folder: Path, extra: tuple[str, ...]) -> float:
    """Seconds a step in a real sweep, from its own progress events: first to last, so without start and end."""
    _, sweep = run_sweep(folder, Training(steps=steps), seeds=range(JOBS), extra=extra, fresh=False)
    events = [e for path in (sweep / "spool").glob("*.jsonl") for e in read_events(path)[0]]
    ticks = [(e.step, e.t) for e in events if isinstance(e, ProgressEvent) and e.job == 0 and e.step < steps]
    (first, began), (last, ended) = min(ticks), max(ticks)
    return float((ended - began) / (last - first))


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--bare", type=int, default=None, metavar="STEPS", help="only time that many bare steps")
    options = parser.parse_args()
    if options.bare:
        print(bare_step_s(options.bare))
        return
    steps = options.steps or (100 if options.quick else 400)
    rounds = options.rounds or (1 if options.quick else 5)
    seconds: dict[str, list[float]] = {"bare": [], "nothing": [], "all": []}
    with tempfile.TemporaryDirectory() as name:
        arms = {
            "bare": partial(bare_apart_s, steps),
            "nothing": partial(trained_step_s, steps, Path(name), NOTHING),
            "all": partial(trained_step_s, steps, Path(name), (f"trainer.checkpoint_s={CHECKPOINT_S}",)),
        }
        for _ in range(rounds):
            for arm, call in arms.items():
                seconds[arm].append(call())
    extra = statistics.median(a / n for a, n in zip(seconds["all"], seconds["nothing"], strict=True)) - 1
    lightning = statistics.median(n / b for n, b in zip(seconds["nothing"], seconds["bare"], strict=True)) - 1
    words = {
        "bare": "the step in a loop, without Lightning",
        "nothing": "a sweep without tracking, metrics or checkpoints",
        "all": f"a sweep with MLflow, metrics every 10 steps, checkpoints every {CHECKPOINT_S:g} s",
    }
    rows = [[text, f"{median(seconds[arm]) * 1e3:.1f}"] for arm, text in words.items()]
    Result(
        name="overhead",
        title="Tracking, progress and checkpoints",
        how=(
            f"Milliseconds a step of a pack of {JOBS} at batch 1, between the first and the last progress event of "
            f"{steps} steps, so that starting and ending do not count; launcher and MLflow run on the same cores. Each "
            f"arm in turn for {rounds} rounds; ratios are medians of the ratios round by round. Progress is on in both "
            "sweeps."
        ),
        quick=options.quick,
        claims=[
            Claim(
                what="tracking, progress and checkpoints",
                measured=f"{extra * 100:+.1f} % of step time",
                limit=f"under {LIMIT * 100:g} %",
                holds=extra < LIMIT,
            )
        ],
        tables=[
            Table(
                title=f"A step, ms (Lightning and progress cost {lightning * 100:+.1f} % over the bare step)",
                columns=["what runs", "median ms"],
                rows=rows,
            )
        ],
    ).save()


if __name__ == "__main__":
    main()
