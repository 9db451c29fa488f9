"""Intervals to a selected best: against tables of others, and against sweeps whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lora_foundry.judge.intervals import _Differences, _factor, _quantile, compare, needed

MANY = 100_000
OFF = 0.03  # of a quantile: three standard errors of one of 4,000 simulated sweeps


def losses_of(images: int, members: int, *, seed: int = 0, spread: float = 0.02) -> NDArray[np.float64]:
    draw = np.random.default_rng(seed)
    each = np.exp(draw.standard_normal((images, 1)) * 0.3)
    return each * (0.5 + spread * draw.standard_normal((images, members)))


@pytest.mark.parametrize("images", [3, 8, 60])
def test_of_two_members_it_is_students_interval_with_the_jackknifes_error(images: int) -> None:
    """The jackknife leaves out one image after another; its variance is small by a factor of (n - 1) / n."""
    losses = losses_of(images, 2, spread=0.005)
    found = compare(losses)
    assert found is not None
    best, other = found.best, 1 - found.best

    def difference(of: NDArray[np.float64]) -> float:
        return float(np.log(of[:, best].mean() / of[:, other].mean()))

    without = [difference(np.delete(losses, place, axis=0)) for place in range(images)]
    error = math.sqrt(np.var(without) * images)
    own = _Differences.of(losses, None)
    assert own.error[other] == pytest.approx(error, rel=0.02)
    one = found.against[other]
    assert one.percent == pytest.approx(100 * math.expm1(difference(losses)))
    wide = stats.t.ppf(0.975, images - 1) * own.error[other]
    assert math.log1p(one.low / 100) == pytest.approx(difference(losses) - wide, rel=1e-9)
    assert math.log1p(one.high / 100) == pytest.approx(difference(losses) + wide, rel=1e-9)


@pytest.mark.parametrize("members", [3, 8])
def test_of_equal_members_it_is_that_of_all_pairs(members: int) -> None:
    """Tukey's: the best and the worst of equals are the farthest apart."""
    tukey = stats.studentized_range.ppf(0.95, members, 10_000) / math.sqrt(2)
    assert _quantile(np.eye(members), np.zeros(members), MANY) == pytest.approx(tukey, rel=OFF)


@pytest.mark.parametrize(("members", "dunnett"), [(3, 2.21), (4, 2.35), (8, 2.65)])
def test_of_a_best_that_stands_out_it_is_that_of_comparisons_with_one(members: int, dunnett: float) -> None:
    """Dunnett's, two-sided, without end of degrees of freedom: Biometrics 20 (1964), table II."""
    apart = np.where(np.arange(members) == 0, 0.0, 1000.0)
    assert _quantile(np.eye(members), apart, MANY) == pytest.approx(dunnett, rel=OFF)


def test_members_that_cannot_be_told_from_the_best_count_as_equal_and_others_do_not() -> None:
    losses = losses_of(20, 3, spread=0.01) * [1.0, 1.0001, 1.5]
    apart = _Differences.of(losses, None).apart()
    assert sorted(apart.tolist())[:2] == [0.0, 0.0]
    assert apart[2] == pytest.approx(math.log(1.5), rel=0.05)


@pytest.mark.parametrize(("images", "kept"), [(8, (0.0, 0.6)), (2000, (0.95, 1.0))])
def test_what_members_have_in_common_by_chance_alone_is_taken_out(images: int, kept: tuple[float, float]) -> None:
    """Six members: of few images that have nothing in common much goes, of many that have it stays."""
    draw = np.random.default_rng(0)
    parts = draw.standard_normal((images, 6))
    if images > 1000:
        parts[:, :3] += draw.standard_normal((images, 1))
    parts -= parts.mean(0)
    own = parts - parts.mean(1, keepdims=True)
    measured, between = own.T @ own / (images - 1), ~np.eye(6, dtype=bool)
    spread = _factor(parts)
    told = spread.T @ spread
    assert np.diag(told) == pytest.approx(np.diag(measured), rel=1e-6)
    low, high = kept
    assert low <= np.linalg.norm(told[between]) / np.linalg.norm(measured[between]) <= high


def test_a_winner_is_one_whose_intervals_all_lie_below_nothing() -> None:
    losses = losses_of(20, 4, spread=0.005) * [1.2, 1.0, 1.1, 1.3]
    found = compare(losses)
    assert found is not None
    assert (found.best, found.tied, found.images) == (1, (), 20)
    assert all(one.low < one.percent < one.high < 0 for place, one in enumerate(found.against) if place != 1)
    assert (found.against[1].low, found.against[1].percent, found.against[1].high) == (0, 0, 0)
    assert needed(losses, found) is None


def test_those_that_are_tied_stand_with_the_nearest_first() -> None:
    draw = np.random.default_rng(1)
    losses = np.exp(draw.standard_normal((8, 5)) * 0.5) * [1.0, 1.0, 1.0, 1.0, 400.0]
    found = compare(losses)
    assert found is not None
    means = losses.mean(0)
    assert found.tied == tuple(sorted(set(range(4)) - {found.best}, key=lambda place: means[place]))


def test_so_many_images_are_needed_as_tables_of_power_say() -> None:
    """(1.96 + 0.84)² sd² / d² for two members and 80 %."""
    losses = losses_of(60, 2, seed=2)
    found = compare(losses)
    assert found is not None
    assert found.tied
    own = _Differences.of(losses, None)
    other = 1 - found.best
    expected = 60 * ((1.96 + 0.84) * own.error[other] / own.worse[other]) ** 2
    assert needed(losses, found) == pytest.approx(expected, rel=0.05)
    assert needed(losses, found) > 60  # type: ignore[operator]


def test_more_than_were_there_are_always_needed() -> None:
    for seed in range(12):
        found = compare(losses := losses_of(3, 2, seed=seed))
        assert found is not None
        told = needed(losses, found)
        assert found.tied == () or told is None or told > 3


@pytest.mark.parametrize(
    "losses",
    [np.ones((1, 3)), np.ones((3, 1)), np.array([[0.0, 1.0], [0.0, 1.0]])],
    ids=["one image", "one member", "no loss"],
)
def test_of_too_little_nothing_is_said(losses: NDArray[np.float64]) -> None:
    assert compare(losses) is None


def test_members_that_are_the_same_are_tied_and_no_number_of_images_would_tell_them_apart() -> None:
    one = losses_of(8, 1)
    found = compare(losses := np.concatenate([one, one, one * 2], axis=1))
    assert found is not None
    assert (found.best, found.tied) == (0, (1,))
    assert needed(losses, found) is None


def test_a_best_that_was_settled_stays_it() -> None:
    losses = losses_of(8, 3)
    settled = compare(losses, 2)
    assert settled is not None
    assert settled.best == 2
    assert settled.against[2].percent == 0


def test_the_same_is_told_again() -> None:
    losses = losses_of(8, 5)
    assert compare(losses) == compare(losses.copy())


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 0.3], ids=["equal", "apart"])
def test_of_a_hundred_sweeps_ninety_five_hold(apart: float) -> None:
    """300 sweeps: between 91 and 99 in a hundred, three standard errors; ``bench.intervals`` measures more closely."""
    truth = apart * np.arange(4)
    held = won = 0
    for seed in range(300):
        found = compare(losses_of(12, 4, seed=seed) * np.exp(truth))
        assert found is not None
        real = 100 * np.expm1(truth[found.best] - truth)
        others = [place for place in range(4) if place != found.best]
        held += all(found.against[place].low <= real[place] <= found.against[place].high for place in others)
        won += not found.tied
    assert 0.91 < held / 300 < 0.99
    assert won / 300 < 0.09 if apart == 0.0 else won == 300
