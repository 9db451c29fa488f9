"""Timesteps that are trained, and those that are judged."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from lora_foundry.objectives import bands, stratified_timesteps, uniform_timestep


def test_stratified_timesteps_are_the_bins_mid_points() -> None:
    assert stratified_timesteps(4, 1000) == [125, 375, 625, 875]
    assert stratified_timesteps(1, 1000) == [500]
    assert stratified_timesteps(8, 1000) == [62, 187, 312, 437, 562, 687, 812, 937]
    assert stratified_timesteps(3, 10) == [1, 5, 8]  # 10/6, 30/6, 50/6 cut down


def test_as_many_bins_as_timesteps_take_each_once() -> None:
    assert stratified_timesteps(7, 7) == list(range(7))


@pytest.mark.parametrize("count", [0, 11])
def test_more_bins_than_timesteps_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"got {count}"):
        stratified_timesteps(count, 10)
    with pytest.raises(ValueError, match=f"got {count}"):
        bands(10, count)


def test_a_timestep_is_a_function_of_its_key_alone() -> None:
    before = torch.random.get_rng_state()
    drawn = [uniform_timestep(key, 1000) for key in range(50)]
    assert drawn == [uniform_timestep(key, 1000) for key in range(50)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(set(drawn)) > 40
    assert isinstance(drawn[0], int)


def test_timesteps_are_uniform_over_the_whole_range() -> None:
    counts = Counter(uniform_timestep(key, 8) for key in range(4000))
    assert set(counts) == set(range(8))
    assert max(abs(count - 500) for count in counts.values()) < 110  # five standard deviations of 21


def test_bands_cover_every_timestep_once() -> None:
    for count in (1, 3, 4, 7):
        whole = bands(1000, count)
        assert [sum(band.holds(t) for band in whole) for t in range(1000)] == [1] * 1000
        assert not any(band.holds(t) for band in whole for t in (-1, 1000))


def test_bands_are_named_as_the_metrics_are() -> None:
    assert [band.label for band in bands(1000)] == ["t000_250", "t250_500", "t500_750", "t750_1000"]


def test_stratified_timesteps_fall_evenly_into_bands() -> None:
    inside = [sum(band.holds(t) for t in stratified_timesteps(8, 1000)) for band in bands(1000, 4)]
    assert inside == [2, 2, 2, 2]
