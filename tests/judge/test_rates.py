"""The rate to use, from short curves of many."""

from __future__ import annotations

import math

import pytest

from lora_foundry.judge.rates import RateCurve, between, choose, spread


def curve(rate: float, *losses: float, failed: bool = False) -> RateCurve:
    return RateCurve(rate=rate, samples=tuple(range(40, 40 * len(losses) + 1, 40)), losses=losses, failed=failed)


def test_the_lowest_at_the_end_is_taken_where_nothing_near_it_is_unstable() -> None:
    choice = choose([curve(1e-4, 0.99, 0.98), curve(1e-3, 0.9, 0.8), curve(1e-2, 0.95, 0.9)])
    assert choice is not None
    assert choice.rate == 1e-3
    assert choice.advice is None
    assert "to 0.800 of the base's" in choice.why


@pytest.mark.parametrize(
    "broken",
    [
        curve(2e-3, 0.9, failed=True),
        curve(2e-3, 0.9, math.nan),
        curve(2e-3, 0.9, 1.1),
        curve(2e-3, 0.7, 0.75),
        curve(2e-3),
    ],
)
def test_it_backs_off_from_what_became_unstable(broken: RateCurve) -> None:
    stable = [curve(5e-4, 0.95, 0.93), curve(1e-3, 0.93, 0.9), curve(1.5e-3, 0.9, 0.8)]
    choice = choose([broken, *stable])
    assert choice is not None
    assert choice.rate == 1e-3, "half of 2e-3"
    assert "0.002 was unstable already" in choice.why


def test_of_rates_that_ended_alike_the_highest_is_taken() -> None:
    """As measured on both styles: at a constant rate higher ones end a little higher, and with cosine lower."""
    choice = choose([curve(5e-4, 0.6, 0.458), curve(1e-3, 0.5, 0.461), curve(3e-3, 0.5, 0.4765), curve(9e-3, 1.2)])
    assert choice is not None
    assert choice.rate == 1e-3, "3e-3 is 4 % above the lowest"
    assert "0.0005 fell lowest of 4 rates (0.458 of the base's)" in choice.why
    assert choice.advice is None


def test_an_unstable_rate_far_above_changes_nothing() -> None:
    choice = choose([curve(1e-4, 0.9, 0.8), curve(1e-3, 0.95, 0.9), curve(1e-2, 0.9, 1.2)])
    assert choice is not None
    assert choice.rate == 1e-4


def test_what_lies_at_the_edge_is_said_to() -> None:
    low = choose([curve(1e-4, 0.9, 0.8), curve(1e-3, 0.95, 0.9)])
    high = choose([curve(1e-4, 0.95, 0.9), curve(1e-3, 0.9, 0.8)])
    assert low is not None
    assert high is not None
    assert "--low" in str(low.advice)
    assert "--high" in str(high.advice)


def test_where_nothing_gets_below_the_base_nothing_is_chosen() -> None:
    assert choose([curve(1e-4, 1.0, 1.0), curve(1e-3, 1.1, 1.3), curve(1e-2, failed=True)]) is None


def test_rates_are_equally_far_apart_to_two_digits() -> None:
    assert spread(1e-4, 3) == [3.2e-6, 1e-4, 3.2e-3]
    assert between(1e-5, 1e-2, 4) == [1e-5, 1e-4, 1e-3, 1e-2]
    ratios = [b / a for a, b in zip(spread(3e-3, 9), spread(3e-3, 9)[1:], strict=False)]
    assert max(ratios) / min(ratios) < 1.1
