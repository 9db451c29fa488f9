"""How often intervals to the selected best hold the truth, and how often a winner is declared that is none.

Sweeps are simulated whose members are known: losses of 64 images as recorded from real sweeps (``bench/recorded``), of
which n are drawn; each member's are divided by its mean over all images, so that no member is better than another,
and then multiplied by how much worse it shall be. So image by image the losses have the shapes, tails and correlations
of real ones. All methods are given the same sweeps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench import PROJECT_ROOT
from bench.measure import Claim, Result, Table, arguments
from lora_foundry.judge.intervals import LEVEL, compare

RECORDED = PROJECT_ROOT / "bench" / "recorded"
IMAGES, MEMBERS = (8, 20, 60), (2, 4, 16)
LOWEST, HIGHEST, FALSELY = 0.93, 0.97, 0.05
_RESAMPLES = 400
_SURE = 3.0  # standard errors of a share: how far simulation may be off

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Told:
    """What a method says of a sweep: intervals ``[M]`` of the best's logarithm less each member's; of itself 0.

    Attributes:
        best: The member that it says is best.
        low: Their lower ends.
        high: Their upper ends; the best is the winner where all others' are below 0.
    """

    best: int
    low: Array
    high: Array


Method = Callable[[Array], Told]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Differences of logarithms of means to the selected best, and what each image adds to them."""

    best: int
    difference: Array  # [M]
    adds: Array  # [n, M], centred
    error: Array  # [M]

    @classmethod
    def of(cls, losses: Array) -> Pairs:
        """Of ``[n, M]``."""
        means = losses.mean(0)
        level, parts = np.log(means), losses / means
        best = int(level.argmin())
        adds = parts[:, [best]] - parts
        return cls(best, level[best] - level, adds, adds.std(0, ddof=1) / math.sqrt(len(losses)))

    def within(self, quantile: float) -> Told:
        """So many errors to either side."""
        return Told(self.best, self.difference - quantile * self.error, self.difference + quantile * self.error)


def student(losses: Array) -> Told:
    """Paired t, one by one."""
    return Pairs.of(losses).within(float(stats.t.ppf(0.5 + LEVEL / 2, len(losses) - 1)))


def bonferroni(losses: Array) -> Told:
    """Paired t, its level divided by the number of comparisons."""
    each = (1 - LEVEL) / (losses.shape[1] - 1)
    return Pairs.of(losses).within(float(stats.t.ppf(1 - each / 2, len(losses) - 1)))


def of_logarithms(losses: Array) -> Told:
    """Paired t of the images' logarithms, one by one: of geometric means, whose best may be another."""
    logs = np.log(losses)
    best = int(losses.mean(0).argmin())
    adds = logs[:, [best]] - logs
    wide = float(stats.t.ppf(0.5 + LEVEL / 2, len(losses) - 1)) * adds.std(0, ddof=1) / math.sqrt(len(losses))
    return Told(best, adds.mean(0) - wide, adds.mean(0) + wide)


def _resampled(images: int) -> Array:
    """``[B, n]``: how often each image is in each resample, over n."""
    return np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), _RESAMPLES) / images


def _of_resamples(losses: Array, own: Pairs) -> Array:
    """``[B, M]`` differences of resamples."""
    levels = np.log(_resampled(len(losses)) @ losses)
    return levels[:, [own.best]] - levels


def percentile(losses: Array) -> Told:
    """Percentile bootstrap over images, one by one."""
    own = Pairs.of(losses)
    low, high = np.quantile(_of_resamples(losses, own), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return Told(own.best, low, high)


def accelerated(losses: Array) -> Told:
    """BCa bootstrap over images, one by one: Efron, J. Am. Stat. Assoc. 82 (1987)."""
    own = Pairs.of(losses)
    drawn = np.sort(_of_resamples(losses, own), axis=0)
    below = ((drawn < own.difference).mean(0) + (drawn <= own.difference).mean(0)) / 2
    shift = stats.norm.ppf(np.clip(below, 0.5 / _RESAMPLES, 1 - 0.5 / _RESAMPLES))
    square = (own.adds**2).sum(0)
    speed = np.divide((own.adds**3).sum(0), 6 * square**1.5, out=np.zeros_like(square), where=square > 0)
    ends = []
    for level in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2):
        at = shift + stats.norm.ppf(level)
        place = np.clip(stats.norm.cdf(shift + at / (1 - speed * at)) * (_RESAMPLES - 1), 0, _RESAMPLES - 1)
        ends.append(np.take_along_axis(drawn, np.rint(place).astype(int)[None], 0)[0])
    return Told(own.best, ends[0], ends[1])


def studentised(losses: Array) -> Told:
    """Bootstrap of the largest studentised difference to the best, which is kept as it is."""
    own, weights = Pairs.of(losses), _resampled(len(losses))
    off = weights @ own.adds
    error = np.sqrt(np.maximum(weights @ own.adds**2 - off**2, 0) / (len(losses) - 1))
    return own.within(_largest(off, error))


def flipped(losses: Array) -> Told:
    """Sign flips of images, the best selected anew among equals: the largest studentised difference."""
    own, images = Pairs.of(losses), len(losses)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (_RESAMPLES, images)) / images
    parts = losses / losses.mean(0) - 1
    means = signs @ parts
    best = means.argmin(1)
    products = parts.T @ parts / images  # [M, M]
    size = np.diag(products)
    off = means[np.arange(_RESAMPLES), best][:, None] - means
    squares = size[best][:, None] + size - 2 * products[best]
    return own.within(_largest(off, np.sqrt(np.maximum(squares - off**2, 0) / (images - 1))))


def _largest(off: Array, error: Array) -> float:
    ratio = np.divide(np.abs(off), error, out=np.zeros_like(off), where=error > 0)
    return float(np.quantile(ratio.max(1), LEVEL))


def best_of_the_rest(losses: Array) -> Told:
    """Hsu's comparisons with the best (1984): one interval, over the best of the others, that ends at 0 at the latest.

    His constant takes members as independent and of one variance: Dunnett's one-sided one.
    """
    own, (images, members) = Pairs.of(losses), losses.shape
    constant = _dunnett(images, members)
    low, high = own.difference - constant * own.error, own.difference + constant * own.error
    others = np.arange(members) != own.best
    ends = min(low[others].max(), 0.0), max(high[others].max(), 0.0)
    sure = high[others].max() < 0
    return Told(own.best, np.full(members, ends[0]), np.full(members, -1e-12 if sure else ends[1]))


_CONSTANTS: dict[tuple[int, int], float] = {}


def _dunnett(images: int, members: int) -> float:
    if (images, members) not in _CONSTANTS:
        draw = np.random.default_rng(0)
        own, others = draw.standard_normal((100_000, 1)), draw.standard_normal((100_000, members - 1))
        error = np.sqrt(draw.chisquare(images - 1, (100_000, 1)) / (images - 1))
        _CONSTANTS[images, members] = float(np.quantile(((own - others) / math.sqrt(2) / error).max(1), LEVEL))
    return _CONSTANTS[images, members]


def ours(losses: Array) -> Told:
    """What is told of a sweep: :func:`lora_foundry.judge.intervals.compare`."""
    found = compare(losses)
    if found is None:
        raise ValueError(
            f"got losses of shape {losses.shape} of which nothing can be said, needed are at least two by two"
        )
    low, high = (np.log1p(np.array([getattr(one, end) for one in found.against]) / 100) for end in ("low", "high"))
    return Told(found.best, low, high)


METHODS: dict[str, Method] = {
    "paired t": student,
    "paired t of logarithms": of_logarithms,
    "percentile bootstrap": percentile,
    "BCa bootstrap": accelerated,
    "paired t, Bonferroni": bonferroni,
    "Hsu, best of the rest": best_of_the_rest,
    "studentised bootstrap, max t": studentised,
    "sign flips, max t": flipped,
    "selected anew (used)": ours,
}
NEAREST = "Hsu, best of the rest"
USED = "selected anew (used)"
OTHERS_EVERY = 4
"""Of the sweeps of a cell, which are given to the methods that are not used."""


def _steps(members: int, error: float) -> Array:
    return np.multiply(np.arange(members), error, dtype=np.float64)


TRUTHS: dict[str, Callable[[int, float], Array]] = {
    "all equal": lambda members, error: np.zeros(members),  # noqa: ARG005
    "two equal": lambda members, error: np.where(np.arange(members) < 2, 0.0, 20 * error),
    "two errors apart": lambda members, error: _steps(members, 2 * error),
}
"""By how much members are worse, of their number and the error of a difference."""


@dataclass(slots=True)
class Share:
    """What came of a method in some sweeps.

    Attributes:
        held: Of the sweeps those in which every interval held the truth.
        each: Of the intervals those that did.
        won: Of the sweeps those in which a winner was declared.
        wrong: Those in which it was no better than another.
    """

    held: float = 0.0
    each: float = 0.0
    won: float = 0.0
    wrong: float = 0.0

    def see(self, told: Told, truth: Array, sweeps: int, *, nearest: bool) -> None:
        """Take in one of so many sweeps, of which the method tells all intervals, or one over the nearest."""
        others = np.arange(len(truth)) != told.best
        real = (truth[told.best] - truth)[others]
        if nearest:
            real = np.full(len(real), real.max())
        inside = (told.low[others] <= real + 1e-9) & (real <= told.high[others] + 1e-9)
        won = bool((told.high[others] < 0).all())
        self.held += float(inside.all()) / sweeps
        self.each += float(inside.mean()) / sweeps
        self.won += won / sweeps
        self.wrong += (won and bool((real >= 0).any())) / sweeps


def recorded(name: str) -> Array:
    """``[images, members]`` of a recorded sweep, each member's mean 1."""
    losses = np.array(json.loads((RECORDED / f"{name}.json").read_text())["relative"]).T
    return losses / losses.mean(0)


def simulate(sweeps: int, cell: tuple[int, int, str]) -> dict[str, Share]:
    """Let all methods judge simulated sweeps.

    Args:
        sweeps: How many.
        cell: n images, which are drawn with replacement, M members, drawn without, and one of :data:`TRUTHS`.
    """
    (images, members, kind), population = cell, recorded("flat")
    draw = np.random.default_rng([images, members, sorted(TRUTHS).index(kind)])
    pairs = population[:, :, None] - population[:, None, :]
    error = float(np.median(pairs.std(0)[np.triu_indices(population.shape[1], 1)])) / math.sqrt(images)
    shares = {name: Share() for name in METHODS}
    for number in range(sweeps):
        taken = draw.permutation(population.shape[1])[:members]
        truth = TRUTHS[kind](members, error)
        losses = population[draw.integers(len(population), size=images)][:, taken] * np.exp(truth)
        for name, method in METHODS.items():
            every = 1 if name == USED else OTHERS_EVERY
            if number % every == 0:
                shares[name].see(method(losses), truth, -(-sweeps // every), nearest=name == NEAREST)
    return shares


def main() -> None:
    """Simulate, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--sweeps", type=int, default=None)
    options = parser.parse_args()
    sweeps = options.sweeps or (100 if options.quick else 2000)
    result = Result(
        name="intervals",
        title="Intervals to the selected best",
        how=(
            f"{sweeps:,} simulated sweeps a cell, made of recorded losses (`bench/recorded`). A sweep's intervals hold "
            "where each of them has the truth in it, over the best that was selected. Methods that are not used were "
            f"given every {OTHERS_EVERY}th sweep."
        ),
        quick=options.quick,
    )
    images, members = (IMAGES[:1], MEMBERS[:2]) if options.quick else (IMAGES, MEMBERS)
    cells = [cell for cell in product(images, members, TRUTHS) if cell[1:] != (2, "two equal")]  # of two they are all
    every: dict[tuple[int, int, str], dict[str, Share]] = {}
    with ProcessPoolExecutor() as pool:
        for cell, shares in zip(cells, pool.map(partial(simulate, sweeps), cells), strict=True):
            every[cell] = shares
            print(*cell, f"held {shares[USED].held:.3f}, won {shares[USED].won:.3f}", flush=True)
    result.tables = [_by_method(every), _by_cell(every)]
    result.claims = _claims(every, sweeps)
    result.save()


def _by_method(every: dict[tuple[int, int, str], dict[str, Share]]) -> Table:
    columns = ["method", "sweeps that hold: least", "most", "each interval: least", "most", "false winners: most"]
    table = Table(title="All methods, over all cells", columns=columns)
    for name in METHODS:
        own = [shares[name] for shares in every.values()]
        held, each, wrong = ([getattr(one, of) for one in own] for of in ("held", "each", "wrong"))
        cells = (min(held), max(held), min(each), max(each), max(wrong))
        table.rows.append([name, *(f"{100 * cell:.1f} %" for cell in cells)])
    return table


def _by_cell(every: dict[tuple[int, int, str], dict[str, Share]]) -> Table:
    table = Table(
        title="The method that is used, cell by cell: sweeps that hold / winners declared",
        columns=["images", "members", *TRUTHS],
    )
    for images, members in dict.fromkeys((images, members) for images, members, _ in every):
        own = [every.get((images, members, kind)) for kind in TRUTHS]
        cells = ["" if one is None else f"{100 * one[USED].held:.1f} % / {100 * one[USED].won:.1f} %" for one in own]
        table.rows.append([str(images), str(members), *cells])
    return table


def _claims(every: dict[tuple[int, int, str], dict[str, Share]], sweeps: int) -> list[Claim]:
    own = {cell: shares[USED] for cell, shares in every.items()}
    least, most = (pick(one.held for one in own.values()) for pick in (min, max))
    wrong = max(one.wrong for one in own.values())
    off = _SURE * math.sqrt(LEVEL * (1 - LEVEL) / sweeps)
    return [
        Claim(
            what="sweeps whose intervals to the selected best hold",
            measured=f"{100 * least:.1f} to {100 * most:.1f} %",
            limit=f"{100 * LOWEST:.0f} to {100 * HIGHEST:.0f} %",
            holds=least >= LOWEST and most <= HIGHEST,
        ),
        Claim(
            what="winners declared that are none",
            measured=f"{100 * wrong:.1f} %",
            limit=f"at most {100 * FALSELY:.0f} %, {100 * (FALSELY + off):.1f} % where simulated",
            holds=wrong <= FALSELY + off,
        ),
    ]


if __name__ == "__main__":
    main()
