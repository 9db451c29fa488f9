"""What a sweep declares: the keys that its jobs are named by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra

from lora_foundry.config.swept import swept_keys
from lora_foundry.launch.points.point import split_words
from lora_foundry.launch.points.spread import declared, points_of
from tests.root import PROJECT_ROOT


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, ["lora.rank=4,8", "seed=7"]),
        ({"optimizer.lr": "1e-3,1e-4", "lora.rank": "4,8"}, ["lora.rank=16", "seed=range(0,3)"]),
        ({"seed": "0,1"}, ["seed=7,7", "lora.alpha=choice(4)"]),
        ({"optimizer": "adamw,prodigy"}, ["data.caption_prefix='a,b','c'"]),
    ],
)
def test_of_a_grid_it_is_what_differs_among_its_points(
    loader: ConfigLoader, params: dict[str, str], words: list[str]
) -> None:
    points = [split_words(point) for point in points_of(loader, params, words)]
    assert tuple(declared(loader, params, words) or ()) == swept_keys(points)


def test_a_space_of_a_search_declares_its_keys_whatever_is_drawn_from_it(loader: ConfigLoader) -> None:
    params = {"optimizer.lr": "interval(0.1,1.0)", "lora.rank": {"type": "int", "low": 4}, "seed": 3}
    assert declared(loader, params, ["trainer.max_steps=10"]) == ("optimizer.lr", "lora.rank")


def test_nothing_declared_is_told_from_an_empty_declaration(loader: ConfigLoader) -> None:
    assert declared(loader, {}, ["seed=3"]) is None
