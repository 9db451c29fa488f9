"""How often an ablation of clean data raises an alarm, and how often a group that does harm is named.

Ablations are simulated whose truth is known: losses of 64 images as recorded from real sweeps (``bench/recorded``), of
which n are drawn; a member each with all images and without each of K groups, none better than another. Chance in
training makes each member's loss higher or lower, anew for each seed; the harmful group's removal lowers it.
"""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from bench.intervals import recorded
from bench.measure import Claim, Result, Table, arguments
from lora_foundry.judge.removal import effects

IMAGES, GROUPS, SEEDS = (8, 16, 60), (4, 8, 15), (1, 3)
CHANCE = (0.0, 1.0, 4.0)
"""How far members differ by chance, in errors of a difference that 16 images leave."""
HARM = (0.0, 5.0, 10.0, 20.0)
"""By how much the loss is lower without the harmful group, in the larger of that error and chance."""
FALSELY = 0.05
_SURE = 3.0  # standard errors of a share: how far simulation may be off
_OF_IMAGES = 16

Cell = tuple[int, int, int, float]


@dataclass(slots=True)
class Share:
    """What came of ablations of one kind.

    Attributes:
        held: Those in which every interval held the truth.
        alarms: Those in which a group was named that does no harm.
        named: Those in which the harmful one was named.
    """

    held: float = 0.0
    alarms: float = 0.0
    named: float = 0.0


def simulate(count: int, cell: Cell) -> dict[float, Share]:
    """Judge so many simulated ablations for each of :data:`HARM`.

    Args:
        count: How many.
        cell: n images, drawn with replacement; K groups; S seeds; how far members differ by chance.
    """
    (images, groups, seeds, chance), population = cell, recorded("flat")
    draw = np.random.default_rng([images, groups, seeds, int(chance)])
    pairs = (population[:, :, None] - population[:, None, :]).std(0)[np.triu_indices(population.shape[1], 1)]
    error = float(np.median(pairs)) / math.sqrt(_OF_IMAGES)
    shares = {harm: Share() for harm in HARM}
    for _ in range(count):
        taken = draw.permutation(population.shape[1])[: groups + 1]
        shown = population[draw.integers(len(population), size=images)][:, taken].T  # [1 + K, n]
        lucky = np.exp(chance * error * draw.standard_normal((seeds, groups + 1, 1)) / math.sqrt(2))
        for harm, share in shares.items():
            truth = np.zeros(groups)
            truth[0] = harm * error * max(1.0, chance)
            harmless = truth == 0
            losses = shown * lucky
            told = effects(losses[:, 0], losses[:, 1:] * np.exp(-truth)[:, None])
            low, high = (np.log1p([getattr(one, end) / 100 for one in told]) for end in ("low", "high"))
            share.held += bool(((low <= truth) & (truth <= high)).all()) / count
            share.alarms += bool((low[harmless] > 0).any()) / count
            share.named += bool((low[~harmless] > 0).any()) / count
    return shares


def main() -> None:
    """Simulate, print, save."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--ablations", type=int, default=None)
    options = parser.parse_args()
    count = options.ablations or (50 if options.quick else 2000)
    result = Result(
        name="removal",
        title="Groups of images that do harm",
        how=(
            f"{count:,} simulated ablations a cell, made of recorded losses (`bench/recorded`). A false alarm is a "
            "group that is named and does nothing; an ablation holds where each of its intervals has the truth in it."
        ),
        quick=options.quick,
    )
    cells = list(
        product(*((one[:1] for one in (IMAGES, GROUPS)) if options.quick else (IMAGES, GROUPS)), SEEDS, CHANCE)
    )
    with ProcessPoolExecutor() as pool:
        every = dict(zip(cells, pool.map(partial(simulate, count), cells), strict=True))
    result.tables = [_by_cell(every)]
    result.claims = _claims(every, count)
    result.save()


def _by_cell(every: dict[Cell, dict[float, Share]]) -> Table:
    table = Table(
        title="Clean data: ablations that hold / false alarms; one harmful group: how often it is named",
        columns=["images", "groups", "seeds", "chance", "clean", *(f"harm {harm:g}" for harm in HARM[1:])],
    )
    for (images, groups, seeds, chance), shares in every.items():
        clean = shares[0.0]
        named = [f"{100 * shares[harm].named:.0f} %" for harm in HARM[1:]]
        cells = [str(images), str(groups), str(seeds), f"{chance:g}"]
        table.rows.append([*cells, f"{100 * clean.held:.1f} % / {100 * clean.alarms:.1f} %", *named])
    return table


def _claims(every: dict[Cell, dict[float, Share]], count: int) -> list[Claim]:
    wrong = max(share.alarms for of in every.values() for share in of.values())
    off = _SURE * math.sqrt(FALSELY * (1 - FALSELY) / count)
    return [
        Claim(
            what="ablations with a false alarm",
            measured=f"{100 * wrong:.1f} %",
            limit=f"at most {100 * FALSELY:.0f} %, {100 * (FALSELY + off):.1f} % where simulated",
            holds=wrong <= FALSELY + off,
        )
    ]


if __name__ == "__main__":
    main()
