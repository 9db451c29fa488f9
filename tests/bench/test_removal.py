"""Simulated ablations."""

from __future__ import annotations

import pytest

from bench.removal import HARM, simulate


def test_simulated_ablations_are_the_same_again_and_more_harm_is_named_more_often() -> None:
    one, again = (simulate(6, (16, 8, 3, 1.0)) for _ in range(2))
    assert one == again
    named = [one[harm].named for harm in HARM]
    assert named == sorted(named)
    assert named[0] == 0
    assert named[-1] == pytest.approx(1)
