"""One job against one run of diffusers' example: steps a second, and starting up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.example import Example, Training, add_options
from bench.foundry import run_sweep
from bench.measure import Claim, Result, Table, arguments, interleave, median

LIMIT_SPEED, LIMIT_START = 1.15, 1.2


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--lengths", type=int, nargs=2, default=(20, 220), help="a short and a long run, steps")
    add_options(parser)
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 3)
    short, long = (20, 70) if options.quick else options.lengths
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds: dict[str, Callable[[Training], object]] = {
            "foundry": lambda training: run_sweep(folder / "ours", training, seeds=[0], fresh=False)
        }
        if options.example:
            kinds["example"] = Example(options.example, folder / "example", options.example_packages).run
        calls = {f"{k} {n}": partial(call, Training(steps=n)) for k, call in kinds.items() for n in (short, long)}
        seconds = interleave(calls, rounds=rounds)
    result = Result(
        name="one_job",
        title="One job",
        how=(
            f"Whole processes of {short} and of {long} steps (rank 8 on attention, batch 1, fp32, no pictures), in "
            f"turns for {rounds} rounds after one that fills both caches. Steps a second are from the difference of "
            "their medians; starting is what is left of the short run: imports, loading, tracking, export and the end."
        ),
        quick=options.quick,
    )
    table = Table(title="One job of batch 1", columns=["", "steps/s", "starting and ending, s", f"{long} steps, s"])
    speed: dict[str, float] = {}
    start: dict[str, float] = {}
    for kind in kinds:
        brief, whole = median(seconds[f"{kind} {short}"]), median(seconds[f"{kind} {long}"])
        speed[kind] = (long - short) / (whole - brief)
        start[kind] = brief - short / speed[kind]
        table.rows.append([kind, f"{speed[kind]:.1f}", f"{start[kind]:.1f}", f"{whole:.1f}"])
    result.tables.append(table)
    if "example" in kinds:
        faster, slower = speed["foundry"] / speed["example"], start["foundry"] / start["example"]
        result.claims += [
            Claim(
                what="steps/s of one job over the example's",
                measured=f"{faster:.2f}x",
                limit=f"at least {LIMIT_SPEED}x",
                holds=faster >= LIMIT_SPEED,
            ),
            Claim(
                what="starting and ending over the example's",
                measured=f"{slower:.2f}x",
                limit=f"at most {LIMIT_START}x",
                holds=slower <= LIMIT_START,
            ),
        ]
    result.save()


if __name__ == "__main__":
    main()
