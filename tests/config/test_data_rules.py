"""What a configuration of images and prompts is warned of before it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lora_foundry.config import parse
from lora_foundry.config.rules import warnings_about
from tests.phrases import FIT_ALONE

Change = Callable[[dict[str, Any]], dict[str, Any]]
OWN = {"data.path": "photos", "data.val_path": None, "data.prompts": []}


def warned(raw: dict[str, Any]) -> dict[str, str]:
    return {one.topic: one.text for one in warnings_about(parse(raw)) if one.topic in TOPICS}


TOPICS = ("fit-alone", "demo-data", "trigger")


def test_the_demo_and_a_folder_of_ones_own_are_warned_of_nothing(with_values: Change) -> None:
    assert warned(with_values({})) == {}
    assert warned(with_values(OWN)) == {}


def test_nothing_held_out_measures_fit_alone(with_values: Change) -> None:
    found = warned(with_values({**OWN, "data.val_fraction": 0}))
    assert list(found) == ["fit-alone"]
    assert FIT_ALONE in found["fit-alone"]
    assert warned(with_values({"data.val_fraction": 0})) == {}, "data.val_path is held out"


def test_ones_own_photos_are_not_judged_on_the_demos_drawings_without_a_word(with_values: Change) -> None:
    found = warned(with_values({"data.path": "photos"}))
    assert list(found) == ["demo-data"]
    assert "data=folder" in found["demo-data"]


@pytest.mark.parametrize(
    ("prompts", "bare"),
    [
        (["a cat", "SKS on a hill", "a dog"], "2 of 3 without data.caption_prefix 'sks,' (a cat; a dog)"),
        (["a", "b", "c"], "(a; b and 1 more)"),
        (["a sks cat"], None),
        ([], None),
    ],
)
def test_written_prompts_without_the_trigger_word_are_counted(
    with_values: Change, prompts: list[str], bare: str | None
) -> None:
    values = {"data.caption_prefix": "sks, ", "sample.prompts": prompts}
    found = warned(with_values(values))
    assert ("trigger" in found) == (bare is not None)
    assert bare is None or (bare in found["trigger"] and "sample.with_prefix=true" in found["trigger"])
    assert warned(with_values({**values, "sample.with_prefix": True})) == {}
    assert warned(with_values({**values, "sample.enabled": False})) == {}
