"""Methods that are compared by simulation, and the sweeps that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from bench.intervals import METHODS, TRUTHS, USED, Share, Told, recorded, simulate


def test_recorded_losses_are_of_members_of_which_none_is_better() -> None:
    losses = recorded("flat")
    assert losses.shape == (64, 16)
    assert losses.mean(0) == pytest.approx(np.ones(16))
    assert losses.std(0).min() > 0.1, "images differ"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_selects_the_lowest_and_its_interval_has_what_was_measured_in_it(name: str) -> None:
    losses = recorded("flat")[:8, :4] * [1.0, 0.9, 1.1, 1.05]
    told = METHODS[name](losses)
    means = losses.mean(0)
    assert told.best == 1
    measured = np.log(means[1] / means)[[0, 2, 3]]
    if name == "Hsu, best of the rest":
        measured = np.full(3, measured.max())
    others = [0, 2, 3]
    assert (told.low[others] <= measured + 1e-9).all()
    assert (measured - 1e-9 <= np.maximum(told.high[others], 0)).all()


def test_a_sweep_holds_where_all_intervals_do_and_a_winner_that_is_no_better_is_a_wrong_one() -> None:
    low, high = np.array([0.0, -0.3, -0.3]), np.array([0.0, -0.1, -0.1])
    share = Share()
    share.see(Told(0, low, high), np.array([0.0, 0.2, 0.2]), 2, nearest=False)
    share.see(Told(0, low, high), np.array([0.0, 0.0, 0.2]), 2, nearest=False)
    assert (share.held, share.each, share.won, share.wrong) == (0.5, 0.75, 1.0, 0.5)


@pytest.mark.parametrize("kind", TRUTHS)
def test_simulated_sweeps_are_the_same_again(kind: str) -> None:
    one, again = (simulate(4, (8, 4, kind)) for _ in range(2))
    assert one == again
    assert 0 <= one[USED].held <= 1
