"""What a search costs beside its jobs, and what early ends save of their time.

``--trials 40 --seeds 5`` trains for an hour on two cores; by itself the first part alone is measured.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import optuna

from bench.example import run_timed
from bench.farm import IDLE_WORKER, ONE_SLOT, SHARE
from bench.measure import Claim, Result, Table, arguments
from lora_foundry.launch.records.reading import read_results
from lora_foundry.wire.events import PackEnded, PackStarted, read_events

TRIAL_MS = 50.0  # of a processor, beside what the same job costs in a grid
WITHIN, SHARE_OF_TIME, QUICKER, BUSY = 0.01, 0.3, 6.0, 0.9
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """A search of real jobs.

    Attributes:
        seconds: Of the whole command.
        best: The lowest validation loss over the base's.
        busy: Share of the time between the first pack's start and the last one's end in which a pack trained.
        points: What each trial was, as words, in the order in which they were asked for.
    """

    seconds: float
    best: float
    busy: float
    points: list[list[str]]


def _job(steps: int) -> list[str]:
    """Words of each trial beside its point."""
    words = ["data.batch_size=1", f"trainer.max_steps={steps}", f"validation.every={steps // 9}"]
    return [*words, "validation.timesteps=4", "sample=none", "tracking=none", SHARE]


def searched(trials: int, seed: int, steps: int, pruner: str) -> Searched:
    """A search on the embedded base."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [*SPACE, *_job(steps), f"hydra.launcher.pruner={pruner}", "hydra.sweeper.sampler=random"]
        words += [f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.seed={seed}"]
        words += [f"hydra.sweep.dir={folder / 'search'}", ONE_SLOT, *SEARCH]
        seconds = run_timed([sys.executable, "-m", "src.train", *words], folder=folder)
        found = read_results(folder / "search")
        return Searched(
            seconds=seconds,
            best=min(one.score for one in found if one.score is not None),
            busy=_busy(folder / "search"),
            points=[[f"{key}={value}" for key, value in one.overrides.items()] for one in found],
        )


def _busy(sweep: Path) -> float:
    """Of a sweep with one slot."""
    spools = (sweep / "spool").glob("*.jsonl")
    told = sorted((event for spool in spools for event in read_events(spool)[0]), key=lambda event: event.t)
    starts = [event.t for event in told if isinstance(event, PackStarted)]
    ends = [event.t for event in told if isinstance(event, PackEnded)]
    trained = sum(end - start for start, end in zip(starts, ends, strict=True))
    return trained / (ends[-1] - starts[0])


def one_by_one(points: list[list[str]], steps: int) -> float:
    """Seconds of the same trials under ``study.optimize``: a process each, as many side by side as there are cores."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cores = os.cpu_count() or 1

        def objective(trial: optuna.Trial) -> float:
            place = folder / str(trial.number)
            place.mkdir()
            words = [*points[trial.number], *_job(steps), f"hydra.run.dir={place / 'run'}"]
            run_timed([sys.executable, "-m", "src.train", *words], folder=place, environment={"OMP_NUM_THREADS": "1"})
            (found,) = read_results(place / "run")
            return math.inf if found.score is None else found.score

        start = time.monotonic()
        optuna.create_study().optimize(objective, n_trials=len(points), n_jobs=cores)
        return time.monotonic() - start


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """The same random points, searched in several ways.

    Attributes:
        seed: Of the sampler.
        full: Each trial in full.
        early: With asha.
        apart: Seconds of :func:`one_by_one`; null where it was not asked for.
    """

    seed: int
    full: Searched
    early: Searched
    apart: float | None

    @property
    def share(self) -> float:
        """Of the time in full that early ends leave."""
        return self.early.seconds / self.full.seconds

    @property
    def loss(self) -> float:
        """By how much the best loss is above that in full."""
        return self.early.best / self.full.best - 1.0


def compared(trials: int, seed: int, steps: int, *, apart: bool) -> Compared:
    """One seed."""
    full = searched(trials, seed, steps, "none")
    early = searched(trials, seed, steps, "asha")
    took = one_by_one(full.points, steps) if apart else None
    return Compared(seed=seed, full=full, early=early, apart=took)


def claims_of(found: list[Compared], trials: int) -> list[Claim]:
    """Medians over the seeds; of the slot's time the least."""
    share, loss = statistics.median(one.share for one in found), statistics.median(one.loss for one in found)
    busy = min(one.early.busy for one in found)
    claims = [
        Claim(
            what=f"{trials} trials with early ends against the same in full",
            measured=f"{share * 100:.0f} % of the time, best loss {loss * 100:+.1f} %",
            limit=f"at most {SHARE_OF_TIME * 100:g} %, within {WITHIN * 100:g} %",
            holds=share <= SHARE_OF_TIME and loss <= WITHIN,
        ),
        Claim(
            what="of a search's time between its first start and its last end, the slot trained",
            measured=f"{busy * 100:.0f} %",
            limit=f"over {BUSY * 100:g} %",
            holds=busy > BUSY,
        ),
    ]
    if quicker := [one.apart / one.early.seconds for one in found if one.apart is not None]:
        times = statistics.median(quicker)
        what = f"{trials} trials with early ends against study.optimize over processes"
        limit = f"at least {QUICKER:g}x"
        claims.append(Claim(what=what, measured=f"{times:.1f}x as quick", limit=limit, holds=times >= QUICKER))
    return claims


def table_of(found: list[Compared], title: str) -> Table:
    """A row a seed."""
    timed = ["in full, s", "with asha, s", "ratio", "processes, s"]
    table = Table(title=title, columns=["seed", *timed, "best in full", "best with asha", "slot trained"])
    for one in found:
        took = "" if one.apart is None else f"{one.apart:.0f}"
        cells = [f"{one.full.seconds:.0f}", f"{one.early.seconds:.0f}", f"{one.share:.2f}", took]
        best = [f"{one.full.best:.4f}", f"{one.early.best:.4f}"]
        table.rows.append([str(one.seed), *cells, *best, f"{one.early.busy * 100:.0f} %"])
    return table


def main() -> None:
    """Measure, print, save; real searches are kept seed by seed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--trials", type=int, default=0, help="of real jobs, with and without early ends")
    parser.add_argument("--seeds", type=int, default=1, help="searches of each kind")
    parser.add_argument("--processes", type=int, default=1, help="of the seeds, under study.optimize as well")
    parser.add_argument("--steps", type=int, default=90, help="of a real job")
    options = parser.parse_args()
    count = 100 if options.quick else 1000
    cost = trial_ms(count)
    own = Claim(
        what=f"a search's own time at {count:,} trials",
        measured=f"{cost:.0f} ms of a processor a trial",
        limit=f"under {TRIAL_MS:g} ms",
        holds=cost < TRIAL_MS,
    )
    result = Result(
        name="search",
        title="Searches",
        how=(
            f"{count:,} trials of jobs that train nothing against a grid of as many: what the search adds is space, "
            "suggestions, a study on disk, and an offer for each. Real searches are of the embedded base, the same "
            "random points in full and with asha, start-up included. Processes: the same points in full by Optuna's "
            "`study.optimize`, each a `python -m src.train` of its own, as many side by side as there are cores."
        ),
        quick=options.quick,
        claims=[own],
    )
    found: list[Compared] = []
    for seed in range(options.seeds if options.trials else 0):
        found.append(compared(options.trials, seed, options.steps, apart=seed < options.processes))
        result.claims = [own, *claims_of(found, options.trials)]
        result.tables = [table_of(found, f"{options.trials} trials of {options.steps} steps")]
        result.keep()
    result.save()


if __name__ == "__main__":
    main()
