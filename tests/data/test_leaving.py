"""Images that training leaves out, and groups of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.checks import check_data, read_data
from lora_foundry.data.grouping import by_folder, by_likeness, by_tag
from lora_foundry.data.leaving import is_left_out
from lora_foundry.data.listing import list_data
from lora_foundry.data.order import SampleOrder
from lora_foundry.data.records import DataError, Record
from tests.data.conftest import Draw

Config = Callable[..., DataConfig]


def record(name: str, caption: str = "a cat") -> Record:
    return Record(image=Path("/data") / name, caption=caption, digest=name, name=name)


@pytest.fixture
def photos(tmp_path: Path, draw: Draw) -> Path:
    for name, caption in (("a/1", "red, cat"), ("a/2", "red dog"), ("b/1", "infrared"), ("b/2", "cat"), ("c/1", "cat")):
        path = draw(tmp_path / "photos" / f"{name}.png")
        path.with_suffix(".txt").write_text(caption)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("a/*", ["a/1.png", "a/b/[2].png"]),
        ("a/b/[[]2].png", ["a/b/[2].png"]),
        ("*.jpg", ["c.jpg"]),
        ("tag:Red  hair", ["a/1.png"]),
        ("tag:hair", ["a/1.png", "c.jpg"]),
    ],
)
def test_a_pattern_means_names_from_the_folder_on_or_whole_words_of_a_caption(pattern: str, meant: list[str]) -> None:
    images = [record("a/1.png", "red hair, smile"), record("a/b/[2].png", "chair"), record("c.jpg", "hair is red")]
    assert [one.name for one in images if is_left_out(one, (pattern,))] == meant


def test_held_out_images_stay_and_places_in_the_epoch_are_empty(photos: Path, config: Config) -> None:
    def look(**changes: object) -> DataConfig:
        return config(path=str(photos), val_path=None, val_fraction=0.4, **changes)

    whole, without = check_data(look(), **NO_TOKENS), check_data(look(without=("a/*",)), **NO_TOKENS)
    assert without.val == whole.val
    assert without.train == tuple(one for one in whole.train if not one.name.startswith("a/"))
    assert without.gaps == tuple(place for place, one in enumerate(whole.train) if one.name.startswith("a/"))
    assert without.gaps, "or nothing was left out"
    assert without.data_hash != whole.data_hash
    assert check_data(look(without=("a/*",)), **NO_TOKENS, read=read_data(look())) == without


def test_without_held_out_images_all_are_judged_that_there_are(photos: Path, config: Config) -> None:
    checked = check_data(config(path=str(photos), val_path=None, val_fraction=0, without=("b/*",)), **NO_TOKENS)
    assert (len(checked.train), len(checked.val)) == (3, 5)


def test_an_image_that_repeats_leaves_as_many_gaps(photos: Path, config: Config) -> None:
    (photos / "a").rename(photos / "3_a")
    asked = config(path=str(photos), val_path=None, val_fraction=0, without=("3_a/*",))
    assert len(check_data(asked, **NO_TOKENS).gaps) == 6


def test_what_means_no_image_or_all_is_refused_before_anything_is_read(photos: Path, config: Config) -> None:
    wrong = config(path=str(photos), val_path=None, without=("d/*", "a/3.png"))
    assert "got 'd/*', which none of the 5 images of data.path is meant by" in list_data(wrong).refused[0]
    assert "did you mean" in list_data(wrong).refused[1]
    with pytest.raises(DataError, match=r"data\.without: got \['\*'\], which leaves none of 5 images"):
        check_data(config(path=str(photos), val_path=None, val_fraction=0, without=("*",)), **NO_TOKENS)


def test_the_places_of_images_that_stay_are_those_that_they_have_without_gaps() -> None:
    whole = SampleOrder(seed=5, n_images=12, flip=True, caption_dropout=0.3)
    kept = [image for image in range(12) if image not in (2, 3, 7)]
    gapped = SampleOrder(seed=5, n_images=9, flip=True, caption_dropout=0.3, gaps=(2, 3, 7))
    assert gapped.epoch == 12
    for ordinal in range(36):
        one, other = whole.draw(ordinal), gapped.draw(ordinal)
        assert (one.variant, one.drop_caption, one.epoch) == (other.variant, other.drop_caption, other.epoch)
        assert one.image in (2, 3, 7) or kept[other.image] == one.image
    fills = [gapped.draw(o).image for o in range(36) if whole.draw(o).image in (2, 3, 7)]
    assert len(fills) == 9
    assert len({*fills[:3]}) == len({*fills[3:6]}) == 3, "no image comes twice before the others came"
    assert fills[:3] != fills[3:6]


def test_more_gaps_than_images_are_filled_in_turns() -> None:
    order = SampleOrder(seed=1, n_images=2, gaps=(0, 1, 2, 3, 4))
    images = [order.draw(ordinal).image for ordinal in range(7)]
    assert sorted(images.count(image) for image in (0, 1)) == [3, 4]
    with pytest.raises(ValueError, match=r"got gaps \[9\] in 3 places"):
        SampleOrder(seed=1, n_images=2, gaps=(9,))


def test_folders_are_groups_at_the_first_depth_at_which_there_are_several() -> None:
    images = [record(name) for name in ("s/a/1.png", "s/a/x/2.png", "s/b[1]/3.png", "s/4.png", "s/5*.png")]
    groups = by_folder(images)
    assert [one.without for one in groups] == [("s/4.png", "s/5[*].png"), ("s/a/*",), ("s/b[[]1]/*",)]
    assert [one.count for one in groups] == [2, 2, 1]
    for group in groups:
        assert sum(is_left_out(one, group.without) for one in images) == group.count
    assert by_folder([record("s/1.png"), record("s/2.png")]) == []


def test_tags_are_groups_where_some_images_have_them_and_most_have_not() -> None:
    captions = ["anna, red hair", "anna, red hair, smile", "anna, smile", "anna, blue", "anna, hat", "anna, cat"]
    groups = by_tag([record(f"{place}.png", caption) for place, caption in enumerate(captions)], most=8)
    assert [(one.without, one.count) for one in groups] == [(("tag:red hair",), 2), (("tag:smile",), 2)]
    plain = by_tag([record(f"{place}.png", text) for place, text in enumerate(("a cat", "cat", "dog", "dog", "ox"))], 1)
    assert [one.without for one in plain] == [("tag:cat",)]


def test_images_that_look_alike_are_a_group() -> None:
    draw = random.Random(0)
    images = [record(f"{place:02}.png") for place in range(12)]
    vectors = np.array([[place % 3 * 10 + draw.random(), draw.random()] for place in range(12)], dtype=np.float32)
    groups = by_likeness(images, vectors, 3)
    assert [one.without for one in groups] == [tuple(f"{n:02}.png" for n in range(own, 12, 3)) for own in range(3)]


NO_TOKENS = {"count_tokens": None, "max_tokens": None}
