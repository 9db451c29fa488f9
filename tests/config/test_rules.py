"""Rules between fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lora_foundry.config import ConfigError, parse

Change = Callable[[dict[str, Any]], dict[str, Any]]

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"trainer.max_steps": None}, "trainer.max_steps=null and trainer.epochs=null: one of them must be a number"),
    ({"scheduler.warmup_steps": 400}, "scheduler.warmup_steps: got 400, allowed is less than trainer.max_steps=400"),
    (
        {"trainer.patience": 767, "validation.every": "auto"},
        "trainer.patience: got 767 samples, allowed is at least 768, from one validation to the next (192 steps of 4)",
    ),
    ({"trainer.patience": 79, "validation.every": None, "trainer.save_every": 20}, "allowed is at least 80"),
    ({"trainer.patience": 79, "validation.every": None}, "trainer.patience=79 with validation.every=null: nothing is "),
    ({"trainer.average": 3}, "trainer.average=3 with trainer.save_every=null: exported adapters are averaged"),
    ({"trainer.average": 5, "trainer.save_every": 100}, "trainer.average: got 5, allowed is at most 4 with "),
    ({"trainer.average": 6, "trainer.save_every": 90}, "allowed is at most 5 with trainer.save_every=90 and 400 steps"),
    ({"data.resolution": 65}, "data.resolution: got 65, allowed is a multiple of 16 (model.stride of tiny-sd); "),
    ({"data.resolution": 65}, "nearest: 64 or 80"),
    ({"data.resolution": 8}, "nearest: 16"),
    ({"model.path": "./v1-5-pruned.safetensors"}, "model.config=null with model.path=./v1-5-pruned.safetensors"),
    ({"lora.target_modules": "atention"}, "did you mean 'attention'?"),
    (
        {"lora.target_modules": "to_q"},
        "attention, attention-mlp, all-linear, all-blocks, all, or a list",
    ),
    ({"lora.target_modules": []}, "lora.target_modules: got an empty list"),
    ({"lora.target_modules": ["to_q", ""]}, "none of them empty"),
    ({"optimizer.betas": [0.9]}, "optimizer.betas: got [0.9], allowed is two numbers"),
    ({"optimizer.betas": [0.9, 1.0]}, "optimizer.betas: got [0.9, 1.0]"),
    ({"optimizer.betas": [-0.1, 0.9]}, "optimizer.betas: got [-0.1, 0.9]"),
    ({"sample.seeds": []}, "sample.seeds: got an empty list"),
    ({"sample.scales": []}, "sample.scales: got []"),
    ({"sample.scales": [0.0, 11.0]}, "sample.scales: got [0.0, 11.0], allowed is at least one number from 0 to 10"),
    ({"sample.scales": [-1.0]}, "sample.scales: got [-1.0]"),
    ({"data.captions": "prefix"}, "data.captions=prefix: data.caption_prefix is the caption of every image then"),
    ({"data.captions": "prefix", "data.caption_prefix": " "}, "give one such as data.caption_prefix=sks"),
    (
        {"validation.metrics": ["cosine"]},
        "validation.metrics: got ['cosine'], allowed is a list of different ones with ",
    ),
    ({"validation.metrics": ["loss", "loss"]}, "with loss among them: adapters are compared by it"),
    ({"sample.prompts": ["a", " "]}, "sample.prompts: got ['a', ' ']"),
    ({"optimizer.name": "prodigy", "optimizer.lr": 1e-3}, "optimizer.lr: got 0.001 with prodigy"),
]
SOUND: list[dict[str, Any]] = [
    {"trainer.max_steps": None, "trainer.epochs": 0.5},
    {"trainer.epochs": 2.0},
    {"trainer.epochs": 2.0, "scheduler.warmup_steps": 400},
    {"scheduler.warmup_steps": 399},
    {"scheduler.warmup_steps": 400, "scheduler.name": "constant"},
    {"data.resolution": 16},
    {"model.path": "x.safetensors", "model.config": "folder"},
    {"lora.target_modules": ["to_q"]},
    {"optimizer.betas": [0, 0.9999]},
    {"sample.enabled": False, "sample.seeds": [], "sample.scales": []},
    {"data.val_path": None, "data.val_fraction": 0.1},
    {"data.val_path": None, "data.val_fraction": 0},
    {"data.captions": "prefix", "data.caption_prefix": "sks"},
    {"sample.enabled": False, "sample.prompts": [""]},
    {"sample.sampler": "dpmpp_2m"},
    {"validation.metrics": ["cosine", "loss"]},
    {"optimizer.name": "prodigy", "optimizer.lr": 1.0},
    {"trainer.average": 4, "trainer.save_every": 100},
    {"trainer.average": 5, "trainer.save_every": 90},
    {"trainer.patience": 768, "validation.every": "auto"},
]


@pytest.mark.parametrize(("values", "words"), BROKEN, ids=lambda value: str(value)[:50])
def test_a_broken_rule_is_one_line_that_says_what_to_do(
    with_values: Change, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_values(values))
    (line,) = caught.value.problems
    assert words in line


@pytest.mark.parametrize("values", SOUND, ids=lambda value: str(value)[:50])
def test_values_that_keep_the_rules_parse(with_values: Change, values: dict[str, Any]) -> None:
    parse(with_values(values))


def test_two_broken_rules_are_both_reported(with_values: Change) -> None:
    with pytest.raises(ConfigError, match="2 problems") as caught:
        parse(with_values({"data.resolution": 65, "optimizer.betas": [2.0, 0.9]}))
    assert len(caught.value.problems) == 2
