"""A sweep of 8 jobs against 8 separate processes of this project and against 8 runs of diffusers' example."""

from __future__ import annotations

import statistics
import tempfile
from argparse import Namespace
from pathlib import Path

from bench.example import Example, Training, add_options
from bench.foundry import run_sweep
from bench.measure import Claim, Result, Table, arguments

JOBS = 8
LIMITS = {100: {"separate": 3.5, "example": 3.0}, 500: {"separate": 2.1, "example": 2.0}}
ONE_WORKER = "hydra.launcher.slots=1"
WORDS = {"separate": "8 separate processes of this project", "example": "8 runs of diffusers' example"}


def measure(steps: int, options: Namespace, folder: Path) -> dict[str, float]:
    """Wall seconds of the sweep, of the same with one worker, and of 8 of each other kind.

    Rounds of one sweep and one run of each other kind, so that all see the same hours of the machine. The sweeps'
    times are the medians of the rounds. With ``--runs`` below 8 the median of the later runs, which find the caches
    filled, stands for those that were not run.
    """
    runs = options.runs or (1 if options.quick else JOBS)
    example = Example(options.example, folder / "example", options.example_packages) if options.example else None
    if example:
        example.run(Training(steps=2))  # it converts its data set once; that is not counted against it
    sweeps: list[float] = []
    alone: list[float] = []
    ours: list[float] = []
    theirs: list[float] = []
    for seed in range(runs):
        ours.append(run_sweep(folder / "separate", Training(steps=steps), seeds=[seed], fresh=not ours)[0])
        sweeps.append(run_sweep(folder / "together", Training(steps=steps), seeds=range(JOBS))[0])
        alone.append(run_sweep(folder / "alone", Training(steps=steps), seeds=range(JOBS), extra=[ONE_WORKER])[0])
        theirs += [example.run(Training(steps=steps, seed=seed))] if example else []
    seconds = {"sweep": statistics.median(sweeps), "alone": statistics.median(alone), "separate": _all(ours)}
    if example:
        seconds["example"] = _all(theirs)
    return seconds


def _all(measured: list[float]) -> float:
    """Seconds of all eight: the first fills the caches, those not run are as the later ones were."""
    first, later = measured[0], measured[1:] or measured
    return first + statistics.median(later) * (JOBS - 1)


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, nargs="+", default=None, help="lengths of a job (100 and 500)")
    parser.add_argument("--runs", type=int, default=None, help="separate runs measured, scaled to 8")
    add_options(parser)
    options = parser.parse_args()
    lengths = options.steps or ([100] if options.quick else list(LIMITS))
    result = Result(
        name="sweep",
        title="A sweep of eight jobs",
        how=(
            "Wall time from the command to its end, start-up, caching, training, export and tracking included: eight "
            "jobs (seeds 0 to 7, rank 8 on attention, batch 1, fp32) on the embedded base. The caches of latents and "
            "text states are empty at the start of every sweep and of the first separate run. A sweep is run with the "
            "defaults, which give so small a base a worker on each of two cores, and with one worker "
            f"(`{ONE_WORKER}`), for which all eight make one pack. Rounds of one of each and one run of each other "
            f"kind, {options.runs or (1 if options.quick else JOBS)} of them; medians. The example trains the same "
            "base, data, batch, steps and precision; its data set was converted before."
        ),
        quick=options.quick,
    )
    columns = ["steps a job", "one sweep, s", "with one worker, s", "8 processes, s", "8 x example, s"]
    columns += ["over processes", "over example"]
    table = Table(title="Eight jobs", columns=columns)
    for steps in lengths:
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(steps, options, Path(folder))
        times = {kind: seconds[kind] / seconds["sweep"] for kind in WORDS if kind in seconds}
        cells = [f"{seconds[kind]:.0f}" if kind in seconds else "" for kind in ("sweep", "alone", *WORDS)]
        table.rows.append([str(steps), *cells, *(f"{times[kind]:.2f}x" if kind in times else "" for kind in WORDS)])
        for kind, limit in LIMITS.get(steps, {}).items():
            if kind in times:
                what = f"8 jobs of {steps} steps against {WORDS[kind]}"
                measured = f"{times[kind]:.2f}x as fast"
                result.claims.append(
                    Claim(what=what, measured=measured, limit=f"at least {limit}x", holds=times[kind] >= limit)
                )
    result.tables.append(table)
    result.save()


if __name__ == "__main__":
    main()
