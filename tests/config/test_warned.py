"""Warnings as lines and as tags."""

from __future__ import annotations

from lora_foundry.config.warned import Warned, tags_of, told

_WARMUP = Warned(topic="warmup", text="the peak is never reached")
_FIT = Warned(topic="validation", text="the loss measures fit alone")


def test_a_topic_is_one_tag_with_each_of_its_texts_once() -> None:
    other = Warned(topic="warmup", text="another")
    assert tags_of([_WARMUP, _FIT, other, _WARMUP]) == {
        "warning.warmup": "the peak is never reached\nanother",
        "warning.validation": "the loss measures fit alone",
    }


def test_a_text_is_told_once_and_names_the_jobs_that_it_is_about_unless_these_are_all() -> None:
    assert told({"a": [_FIT, _WARMUP], "b": [_FIT], "c": [_FIT]}) == [
        "warning: the loss measures fit alone",
        "warning: a: the peak is never reached",
    ]


def test_of_many_jobs_three_are_named_and_the_rest_is_counted() -> None:
    warned = {f"m{n}": [_WARMUP] for n in range(6)}
    assert told({**warned, "sound": []}) == ["warning: m0, m1, m2 and 3 more: the peak is never reached"]
