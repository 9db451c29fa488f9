"""The stateless sample order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.order import SampleOrder
from lora_foundry.data.transform import variants

GOLDEN = [(2, 0, True), (6, 2, True), (0, 1, False), (1, 0, False), (1, 0, True), (5, 3, False)]


@pytest.mark.slow
@given(seed=st.integers(0, 2**63 - 1), n=st.integers(1, 40), epoch=st.integers(0, 10**6))
def test_every_epoch_is_a_permutation_of_all_images(seed: int, n: int, epoch: int) -> None:
    order = SampleOrder(seed=seed, n_images=n)
    draws = [order.draw(epoch * n + place) for place in range(n)]
    assert sorted(draw.image for draw in draws) == list(range(n))
    assert {draw.epoch for draw in draws} == {epoch}


@pytest.mark.slow
@given(seed=st.integers(0, 99), shuffle=st.randoms(use_true_random=False))
def test_a_draw_does_not_depend_on_the_draws_before_it(seed: int, shuffle: random.Random) -> None:
    settings = {"seed": seed, "n_images": 7, "flip": True, "crops": 3, "caption_dropout": 0.5}
    order = SampleOrder(**settings)
    straight = [order.draw(ordinal) for ordinal in range(60)]
    ordinals = list(range(60))
    shuffle.shuffle(ordinals)
    assert {ordinal: order.draw(ordinal) for ordinal in ordinals} == dict(enumerate(straight))
    assert SampleOrder(**settings).draw(ordinals[0]) == straight[ordinals[0]]


def test_epochs_and_seeds_shuffle_differently() -> None:
    order = SampleOrder(seed=1, n_images=50)
    first = [order.draw(o).image for o in range(50)]
    second = [order.draw(o).image for o in range(50, 100)]
    other = SampleOrder(seed=2, n_images=50)
    assert first != second
    assert first != [other.draw(o).image for o in range(50)]
    assert first != list(range(50))


def test_flip_crop_and_dropout_come_as_often_as_asked() -> None:
    n = 20_000
    order = SampleOrder(seed=3, n_images=11, flip=True, crops=4, caption_dropout=0.1)
    draws = [order.draw(ordinal) for ordinal in range(n)]
    # Four standard deviations of a binomial count.
    assert sum(draw.drop_caption for draw in draws) == pytest.approx(n * 0.1, abs=4 * (n * 0.1 * 0.9) ** 0.5)
    for variant in range(8):
        count = sum(draw.variant == variant for draw in draws)
        assert count == pytest.approx(n / 8, abs=4 * (n / 8 * 7 / 8) ** 0.5)
    both = sum(draw.drop_caption and draw.variant % 2 for draw in draws)
    assert both == pytest.approx(n * 0.05, abs=4 * (n * 0.05 * 0.95) ** 0.5)


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, {False}), (1.0, {True})])
def test_dropout_of_none_and_of_all_are_exact(dropout: float, expected: set[bool]) -> None:
    order = SampleOrder(seed=0, n_images=3, caption_dropout=dropout)
    assert {order.draw(o).drop_caption for o in range(500)} == expected


def test_turning_one_stream_on_leaves_the_others_alone() -> None:
    plain = SampleOrder(seed=5, n_images=9, caption_dropout=0.5)
    full = SampleOrder(seed=5, n_images=9, flip=True, crops=3, caption_dropout=0.5)
    for ordinal in range(40):
        a, b = plain.draw(ordinal), full.draw(ordinal)
        assert (a.image, a.drop_caption, a.epoch) == (b.image, b.drop_caption, b.epoch)
        assert a.variant == 0


def test_variants_are_those_of_the_configuration(config: Callable[..., DataConfig]) -> None:
    for changes in ({}, {"flip": True}, {"crop": "random"}, {"flip": True, "crop": "random"}):
        data = config(**changes)
        order = SampleOrder.of(data, seed=0, n_images=5)
        assert {order.draw(o).variant for o in range(300)} == set(range(len(variants(data))))


def test_the_order_is_the_same_on_every_machine() -> None:
    # Recorded when the order was written, torch 2.13.0: a checkpoint's cursor means these draws.
    order = SampleOrder(seed=1234, n_images=8, flip=True, crops=2, caption_dropout=0.25)
    assert [tuple(order.draw(o)[:3]) for o in (0, 1, 2, 7, 8, 1000)] == GOLDEN


def test_an_image_is_drawn_as_often_as_it_repeats_in_every_epoch() -> None:
    order = SampleOrder(seed=3, n_images=3, repeats=[10, 1, 2])
    assert order.epoch == 13
    for epoch in range(3):
        drawn = [order.draw(epoch * 13 + place) for place in range(13)]
        assert Counter(draw.image for draw in drawn) == {0: 10, 1: 1, 2: 2}
        assert {draw.epoch for draw in drawn} == {epoch}


def test_one_repeat_each_is_the_order_that_it_always_was() -> None:
    plain, once = SampleOrder(seed=3, n_images=7), SampleOrder(seed=3, n_images=7, repeats=[1] * 7)
    assert [plain.draw(n) for n in range(20)] == [once.draw(n) for n in range(20)]


@pytest.mark.parametrize(
    "wrong",
    [{"n_images": 0}, {"n_images": 3, "crops": 0}, {"n_images": 2, "repeats": [1]}, {"n_images": 1, "repeats": [0]}],
)
def test_an_order_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SampleOrder(seed=0, **wrong)


def test_a_negative_ordinal_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        SampleOrder(seed=0, n_images=3).draw(-1)
