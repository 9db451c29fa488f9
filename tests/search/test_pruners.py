"""Who is ended early: the losers, at equal numbers of samples, and nobody before the first report that counts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import optuna
import pytest

from lora_foundry.config.choices import PRUNERS
from lora_foundry.config.launcher import Settings
from lora_foundry.search.pruners import Pace, pruner_choice

_PACE = Pace(unit=100, longest=2700)


def _pruned(
    settings: Settings, curves: Mapping[str, list[float]], *, direction: str = "minimize", pace: Pace = _PACE
) -> dict[str, int]:
    """Name to the samples at which it was pruned; all train side by side and report after every unit."""
    study = optuna.create_study(direction=direction)
    pruner = pruner_choice(settings.pruner).build(settings, pace)
    if pruner is not None:
        study.pruner = pruner
    trials = {name: study.ask() for name in curves}
    ended: dict[str, int] = {}
    for turn in range(max(map(len, curves.values()))):
        for name, values in curves.items():
            if name in ended or turn >= len(values):
                continue
            step = (turn + 1) * pace.unit
            trials[name].report(values[turn], step)
            if trials[name].should_prune():
                ended[name] = step
    return ended


def _line(level: float, turns: int = 27) -> list[float]:
    return [level] * turns


LEVELS = {f"job{place}": _line(0.5 + place / 10) for place in range(9)}


def test_none_ends_nobody() -> None:
    assert _pruned(Settings(), LEVELS) == {}


def test_asha_leaves_a_third_at_each_rung_and_the_best_always() -> None:
    ended = _pruned(Settings(pruner="asha"), LEVELS)
    assert "job0" not in ended
    assert set(ended.values()) <= {100, 300, 900, 2700}, "rungs alone"
    assert sum(step == 100 for step in ended.values()) >= 5


def test_asha_begins_where_it_is_told_and_with_the_factor_that_it_is_told() -> None:
    ended = _pruned(Settings(pruner="asha", prune_from=400, prune_factor=2), LEVELS)
    assert set(ended.values()) <= {400, 800, 1600}


def test_hyperband_ends_losers_and_leaves_the_best() -> None:
    ended = _pruned(Settings(pruner="hyperband"), LEVELS)
    assert ended
    assert "job0" not in ended


def test_the_median_is_of_all_that_got_as_far_those_under_way_included() -> None:
    ended = _pruned(Settings(pruner="median"), LEVELS)
    assert {"job0", "job1", "job2"}.isdisjoint(ended)
    assert {"job7", "job8"} <= set(ended)
    assert _pruned(Settings(pruner="median", prune_from=500), LEVELS).keys() <= ended.keys()
    assert min(_pruned(Settings(pruner="median", prune_from=500), LEVELS).values()) >= 500


def test_the_median_of_few_says_nothing() -> None:
    assert _pruned(Settings(pruner="median"), {name: LEVELS[name] for name in ("job0", "job1", "job8")}) == {}


def test_a_best_of_before_counts_for_the_median() -> None:
    curves = {**LEVELS, "was-best": [0.1, *[2.0] * 26]}
    assert "was-best" not in _pruned(Settings(pruner="median"), curves)


def test_patience_is_in_samples_and_asks_nobody_else() -> None:
    falling = [1.0 - turn / 100 for turn in range(27)]
    stuck = [*falling[:5], *[0.96] * 22]
    ended = _pruned(Settings(pruner="patience", prune_patience=300), {"falling": falling, "stuck": stuck})
    assert ended == {"stuck": 800}, "the last to improve was the fifth report"


def test_a_threshold_is_one_for_all() -> None:
    ended = _pruned(Settings(pruner="threshold", prune_above=1.15), LEVELS)
    assert ended == {"job7": 100, "job8": 100}
    best = _pruned(Settings(pruner="threshold", prune_above=0.65, prune_maximize=True), LEVELS, direction="maximize")
    assert best == {"job0": 100, "job1": 100}


@pytest.mark.parametrize("name", [name for name in PRUNERS.names() if name not in ("none", "patience")])
def test_what_is_no_number_is_pruned(name: str) -> None:
    settings = Settings(pruner=name, prune_above=5.0)
    curves = {**LEVELS, "diverged": _line(math.nan)}
    assert "diverged" in _pruned(settings, curves)
