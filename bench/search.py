"""What a search costs beside its jobs, and what early ends save of their time.

``--trials 40 --seeds 5`` trains for an hour on two cores; by itself the first part alone is measured.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.example import run_timed
from bench.farm import IDLE_WORKER, ONE_SLOT, SHARE
from bench.measure import Claim, Result, Table, arguments
from lora_foundry.launch.records.reading import read_results

TRIAL_MS = 50.0  # of a processor, beside what the same job costs in a grid
WITHIN, SHARE_OF_TIME = 0.01, 0.3
SPACE = ("lora.rank=choice(2,4,8,16,32)", "optimizer.lr=tag(log,interval(3e-4,1e-2))", "lora.dropout=interval(0,0.3)")
SEARCH = ("-m", "hydra/sweeper=optuna")


def processor_s(words: list[str], folder: Path) -> float:
    """Seconds of a processor that a sweep took, its workers included."""
    before = os.times()
    run_timed([sys.executable, "-m", "src.train", *words], folder=folder)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _common(folder: Path) -> list[str]:
    return ["sample=none", f"data.cache_dir={folder / 'cache'}", "tracking=none", IDLE_WORKER, SHARE, ONE_SLOT]


def trial_ms(count: int) -> float:
    """Milliseconds of a processor that a trial costs more than a job of a grid; neither trains anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = [f"seed={','.join(map(str, range(count)))}", f"hydra.sweep.dir={folder / 'grid'}", "-m"]
        search = [*SPACE, f"hydra.sweeper.n_trials={count}", f"hydra.sweep.dir={folder / 'search'}", *SEARCH]
        took = {
            kind: processor_s([*words, *_common(folder)], folder)
            for kind, words in (("grid", grid), ("search", search))
        }
        found = read_results(folder / "search")
        if len(found) != count or any(one.state != "FINISHED" for one in found):
            msg = f"{sum(one.state == 'FINISHED' for one in found)} of {count} trials finished"
            raise RuntimeError(msg)
    return (took["search"] - took["grid"]) / count * 1e3


def searched(trials: int, seed: int, steps: int, pruner: str) -> tuple[float, float]:
    """Seconds, and the best validation loss over the base's, of a search of real jobs on the embedded base."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [*SPACE, "data.batch_size=1", f"trainer.max_steps={steps}", f"validation.every={steps // 9}"]
        words += ["validation.timesteps=4", "sample=none", "tracking=none", SHARE, f"hydra.launcher.pruner={pruner}"]
        words += [f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.seed={seed}", "hydra.sweeper.sampler=random"]
        words += [f"hydra.sweep.dir={folder / 'search'}", *SEARCH]
        start = time.monotonic()
        run_timed([sys.executable, "-m", "src.train", *words], folder=folder)
        seconds = time.monotonic() - start
        scores = [one.score for one in read_results(folder / "search") if one.score is not None]
    return seconds, min(scores)


def main() -> None:
    """Measure, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--trials", type=int, default=0, help="of real jobs, with and without early ends")
    parser.add_argument("--seeds", type=int, default=1, help="searches of each kind")
    parser.add_argument("--steps", type=int, default=90, help="of a real job")
    options = parser.parse_args()
    count = 100 if options.quick else 1000
    cost = trial_ms(count)
    claims = [
        Claim(
            what=f"a search's own time at {count:,} trials",
            measured=f"{cost:.0f} ms of a processor a trial",
            limit=f"under {TRIAL_MS:g} ms",
            holds=cost < TRIAL_MS,
        )
    ]
    tables = []
    rows, ratios, losses = [], [], []
    for seed in range(options.seeds if options.trials else 0):
        full, best = searched(options.trials, seed, options.steps, "none")
        early, found = searched(options.trials, seed, options.steps, "asha")
        ratios.append(early / full)
        losses.append(found / best - 1.0)
        rows.append([str(seed), f"{full:.0f}", f"{early:.0f}", f"{early / full:.2f}", f"{best:.4f}", f"{found:.4f}"])
    if rows:
        share, loss = statistics.median(ratios), statistics.median(losses)
        claims.append(
            Claim(
                what=f"{options.trials} trials with early ends against the same in full",
                measured=f"{share * 100:.0f} % of the time, best loss {loss * 100:+.1f} %",
                limit=f"at most {SHARE_OF_TIME * 100:g} %, within {WITHIN * 100:g} %",
                holds=share <= SHARE_OF_TIME and loss <= WITHIN,
            )
        )
        columns = ["seed", "in full, s", "with asha, s", "ratio", "best in full", "best with asha"]
        tables.append(Table(title=f"{options.trials} trials of {options.steps} steps", columns=columns, rows=rows))
    Result(
        name="search",
        title="Searches",
        how=(
            f"{count:,} trials of jobs that train nothing against a grid of as many: what the search adds is space, "
            "suggestions, a study on disk, and an offer for each. Real searches are of the embedded base, the same "
            "random points in full and with asha, start-up included."
        ),
        quick=options.quick,
        claims=claims,
        tables=tables,
    ).save()


if __name__ == "__main__":
    main()
