"""What groups of images do: intervals against what is known, and how often clean data raises an alarm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from bench.intervals import recorded
from lora_foundry.judge.removal import effects, removals

Array = NDArray[np.float64]


def losses(seeds: int, groups: int, images: int, *, chance: float = 0.0, harm: float = 0.0, seed: int = 0) -> Array:
    """``[S, 1 + K, n]``, the first with all images; without the last group the loss is lower by ``harm``."""
    draw = np.random.default_rng(seed)
    each = np.exp(draw.standard_normal(images) * 0.3)
    own = 1 + 0.01 * draw.standard_normal((seeds, groups + 1, images))
    own = own * np.exp(chance * draw.standard_normal((seeds, groups + 1, 1)))
    own[:, -1] *= 1 - harm
    return each * own


def test_with_several_seeds_chance_is_how_a_groups_effect_differs_between_them() -> None:
    """Against Welch's interval written out, for losses that are the same on every image."""
    draw = np.random.default_rng(3)
    levels = np.exp(0.01 * draw.standard_normal((3, 5)))
    found = effects(np.repeat(levels[:, :1], 8, 1), np.repeat(levels[:, 1:, None], 8, 2))
    each = np.log(levels[:, :1] / levels[:, 1:])
    error = math.sqrt(each.var(0, ddof=1).mean() / 3)
    wide = stats.t.ppf(1 - 0.05 / 8, 4 * 2) * error
    for place, one in enumerate(found):
        assert one.percent == pytest.approx(100 * math.expm1(each[:, place].mean()))
        assert one.low == pytest.approx(100 * math.expm1(each[:, place].mean() - wide))
        assert one.high == pytest.approx(100 * math.expm1(each[:, place].mean() + wide))


def test_without_chance_in_training_it_is_students_interval_over_images() -> None:
    whole = losses(2, 3, 30)
    whole[1] = whole[0]  # a seed like the other
    found = effects(whole[:, 0], whole[:, 1:])
    parts = whole[0, 0] / whole[0, 0].mean() - whole[0, 2] / whole[0, 2].mean()
    error = parts.std(ddof=1) / math.sqrt(30)
    wide = (math.log1p(found[1].high / 100) - math.log1p(found[1].low / 100)) / 2
    assert wide == pytest.approx(stats.t.ppf(1 - 0.05 / 6, 29) * error, rel=0.03)


def test_with_one_seed_a_group_stands_out_among_the_others_and_does_not_count_as_chance_itself() -> None:
    whole = losses(1, 8, 20, chance=0.002, harm=0.03)
    found = removals(whole[:, 0], whole[:, 1:], [(f"g{place}",) for place in range(8)])
    assert [one.without for one in found.effects if one.harms] == [("g7",)]
    assert found.effects[0].interval.percent == pytest.approx(3, abs=1)
    assert found.effects[0].loss < found.loss


def test_all_groups_lower_than_the_whole_are_no_group_that_harms() -> None:
    """One with all images that had bad luck: then every group's removal seems to help, by nearly the same."""
    whole = losses(1, 8, 40, chance=0.001)
    whole[:, 0] *= 1.02
    assert not any(one.low > 0 for one in effects(whole[:, 0], whole[:, 1:]))


def test_less_variety_that_all_removals_have_in_common_hides_no_harm() -> None:
    whole = losses(1, 8, 20, chance=0.002, harm=0.05)
    whole[:, 1:] *= 1.02
    assert [one.low > 0 for one in effects(whole[:, 0], whole[:, 1:])] == [*[False] * 7, True]


@pytest.mark.parametrize("shape", [(1, 3, 8), (2, 1, 8), (1, 8, 1)])
def test_too_few_are_refused(shape: tuple[int, int, int]) -> None:
    whole = losses(*shape)
    with pytest.raises(ValueError, match=rf"got {shape[0]} seed\(s\), {shape[1]} groups and {shape[2]} held-out"):
        effects(whole[:, 0], whole[:, 1:])


@pytest.mark.parametrize(("seeds", "chance"), [(1, 0.0), (1, 0.01), (2, 0.01)])
def test_clean_data_hardly_ever_raises_an_alarm(seeds: int, chance: float) -> None:
    """At most 5 % of ablations; 300 of them may be off by 2.5 (two standard errors)."""
    population, draw = recorded("flat"), np.random.default_rng(7)
    alarms = 0
    for _ in range(300):
        taken = draw.permutation(16)[:9]
        own = population[draw.integers(64, size=16)][:, taken].T * np.exp(chance * draw.standard_normal((seeds, 9, 1)))
        alarms += any(one.low > 0 for one in effects(own[:, 0], own[:, 1:]))
    assert alarms / 300 <= 0.05 + 0.025
