"""``src.find_lr`` against what it stands for: nine learning rates trained at full length, on both styles."""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.example import run_timed
from bench.measure import Claim, Result, Table, arguments
from lora_foundry.judge.rates import RateCurve, between, choose
from lora_foundry.launch.records.reading import read_results
from lora_foundry.search.rates import KEY, curves_of

STYLES = ("duotone", "flat")
LOW, HIGH, RATES = 3e-4, 1e-2, 9  # of the trainings at full length: neighbours are a factor 1.55 apart
FACTOR, SHARE, LOSS, SECONDS = 2.0, 0.9, 0.02, 90.0
SHARED = "hydra.launcher.share=true"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What was found on one style with one seed.

    Attributes:
        style: Of the drawings.
        seed: Of the trainings, short and long.
        seconds: That the short run took, start-up included.
        curves: Its curves.
        losses: Validation loss over the base's after the full length, by rate; the rate that was chosen is among them.
    """

    style: str
    seed: int
    seconds: float
    curves: tuple[RateCurve, ...]
    losses: dict[float, float]

    @property
    def chosen(self) -> float:
        """The rate that the rule takes from the curves; not a number where it takes none."""
        choice = choose(self.curves)
        return math.nan if choice is None else choice.rate

    @property
    def best(self) -> float:
        """The rate with the lowest loss at full length."""
        return min(self.losses, key=self.losses.__getitem__)

    @property
    def off(self) -> float:
        """Factor between what was chosen and the best, at least 1."""
        return math.exp(abs(math.log(self.chosen / self.best)))

    @property
    def worse(self) -> float:
        """Share by which the chosen rate's loss at full length is above the lowest."""
        return self.losses.get(self.chosen, math.inf) / self.losses[self.best] - 1.0


def _words(style: str, seed: int, folder: Path) -> list[str]:
    common = [f"data=emoji-{style}", "data.batch_size=1", f"seed={seed}", f"data.cache_dir={folder / 'cache'}"]
    return [*common, "tracking=none", SHARED]


def _scores(folder: Path) -> dict[float, float]:
    """Losses by rate; a rate whose job failed has an infinite one."""
    found = read_results(folder)
    return {float(one.overrides[KEY]): math.inf if one.score is None else one.score for one in found}


def tried(style: str, seed: int, steps: int) -> Tried:
    """The short run, and the long ones of the rates between :data:`LOW` and :data:`HIGH` and of the chosen one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = _words(style, seed, folder)
        short, long = folder / "short", folder / "long"
        command = [sys.executable, "-m", "src.find_lr", *words, f"hydra.sweep.dir={short}"]
        seconds = run_timed(command, folder=folder)
        curves = tuple(curves_of(short)[0].curves)
        choice = choose(curves)
        rates = sorted({*between(LOW, HIGH, RATES), *([choice.rate] if choice else [])})
        sweep = [f"{KEY}={','.join(map(str, rates))}", f"trainer.max_steps={steps}", "sample=none", "-m"]
        run_timed([sys.executable, "-m", "src.train", *words, *sweep, f"hydra.sweep.dir={long}"], folder=folder)
        return Tried(style=style, seed=seed, seconds=seconds, curves=curves, losses=_scores(long))


def table_of(found: list[Tried]) -> Table:
    """A row a style and seed."""
    columns = ["style", "seed", "chosen", "best of all at full length", "factor", "loss above the best", "seconds"]
    table = Table(title="What was chosen, and what was best", columns=columns)
    for one in found:
        cells = [one.style, str(one.seed), f"{one.chosen:.2g}", f"{one.best:.2g}", f"{one.off:.2f}"]
        table.rows.append([*cells, f"{one.worse * 100:.1f} %", f"{one.seconds:.0f}"])
    return table


def losses_of(found: list[Tried]) -> Table:
    """The losses at full length, a row a style and seed."""
    rates = sorted({rate for one in found for rate in one.losses})
    table = Table(title="Losses at full length by rate", columns=["style", "seed", *(f"{rate:.2g}" for rate in rates)])
    for one in found:
        cells = [f"{one.losses[rate]:.3f}" if rate in one.losses else "" for rate in rates]
        table.rows.append([one.style, str(one.seed), *cells])
    return table


def claims_of(found: list[Tried]) -> list[Claim]:
    """How often the factor holds, how much is lost, how long it takes."""
    near = sum(one.off <= FACTOR for one in found)
    loss = sum(one.worse <= LOSS for one in found)
    seconds = statistics.median(one.seconds for one in found)
    needed, count = math.ceil(SHARE * len(found)), len(found)
    return [
        Claim(
            what=f"find_lr's rate within a factor {FACTOR:g} of the best at full length",
            measured=f"{near} of {count}",
            limit=f"at least {needed} of {count}",
            holds=near >= needed,
        ),
        Claim(
            what=f"its loss at full length within {LOSS * 100:g} % of the best one's",
            measured=f"{loss} of {count}",
            limit=f"at least {needed} of {count}",
            holds=loss >= needed,
        ),
        Claim(
            what="find_lr on the demo's drawings, start-up included",
            measured=f"{seconds:.0f} s",
            limit=f"under {SECONDS:g} s",
            holds=seconds < SECONDS,
        ),
    ]


def keep(path: Path, one: Tried) -> None:
    """Add a line to the file of what was found."""
    line = {**asdict(one), "losses": list(one.losses.items())}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_kept(path: Path) -> list[Tried]:
    """What an earlier call found; nothing where there is no file yet."""
    if not path.exists():
        return []
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        Tried(**{**line, "curves": tuple(map(_curve, line["curves"])), "losses": dict(line["losses"])})
        for line in lines
    ]


def _curve(told: dict[str, Any]) -> RateCurve:
    return RateCurve(**{**told, "samples": tuple(told["samples"]), "losses": tuple(told["losses"])})


def main() -> None:
    """Measure, print, save; what was found so far is kept after each style and seed."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each style")
    parser.add_argument("--steps", type=int, default=400, help="of a training at full length, at batch 1")
    parser.add_argument(
        "--kept", type=Path, help="a file for what was found, a JSON line each, with which a call goes on"
    )
    options = parser.parse_args()
    result = Result(
        name="find_lr",
        title="The learning rate from a short run",
        how=(
            "`src.find_lr` as it comes (nine rates over three powers of ten, 160 samples each, at batch 1), and then "
            f"nine rates from {LOW:g} to {HIGH:g} and the chosen one at full length: {options.steps} steps of batch 1, "
            "cosine, rank 8, same seed. Losses are the best validation's over the base's."
        ),
        quick=options.quick,
    )
    found: list[Tried] = [] if options.kept is None else read_kept(options.kept)
    seeds, steps = (1, 60) if options.quick else (options.seeds, options.steps)
    for seed in range(seeds):
        for style in STYLES:
            if any((one.style, one.seed) == (style, seed) for one in found):
                continue
            found.append(tried(style, seed, steps))
            if options.kept is not None:
                keep(options.kept, found[-1])
            result.claims, result.tables = claims_of(found), [table_of(found), losses_of(found)]
            result.keep()
    result.claims, result.tables = claims_of(found), [table_of(found), losses_of(found)]
    result.save()


if __name__ == "__main__":
    main()
