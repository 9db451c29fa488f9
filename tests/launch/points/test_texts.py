"""Any text may be given as a value of a text's key; what the grammar understands stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.config.hints import known_keys
from lora_foundry.launch.points.texts import as_texts


def values_of(word: str) -> list[Any]:
    """What Hydra reads in a word, quotes aside: one value, or those of a sweep."""
    (parsed,) = OverridesParser.create().parse_overrides(as_texts([word]))
    if not parsed.is_sweep_override():
        return [parsed.value()]
    words = as_texts([f"{parsed.key_or_group}={text}" for text in parsed.sweep_string_iterator()])
    made = OverridesParser.create().parse_overrides(words)
    return [one.value() for one in made]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("data.path=/home/müller", ["/home/müller"]),
        ("data.path=~/photos", ["~/photos"]),
        ("data.path=it's", ["it's"]),
        ("data.path=a(1)", ["a(1)"]),
        ("data.path=a=b", ["a=b"]),
        ("data.path=[2024] photos", ["[2024] photos"]),
        ("data.path=50% #1 & more;", ["50% #1 & more;"]),
        ("data.path=C:\\photos\\", ["C:\\photos\\"]),
        ("data.background=#00ff00", ["#00ff00"]),
        ("data.caption_prefix=anna, ", ["anna, "]),
        ("data.caption_prefix=портрет анны", ["портрет анны"]),
        ("data.path=/home/müller,it's,c", ["/home/müller", "it's", "c"]),
        ("data.path=choice(é,it's)", ["é", "it's"]),
        ("data.path='a, b',é", ["a, b", "é"]),
        ("sample.prompts=[кошка, a cat's eye]", [["кошка", "a cat's eye"]]),
        ("sample.prompts=[кошка],[a(1),b]", [["кошка"], ["a(1)", "b"]]),
        ("data={path:é,name:x}", [{"path": "é", "name": "x"}]),
        ("data=é", ["é"]),
        ("lora.init=käiming", ["käiming"]),
        ("lora.rank=ü", ["ü"]),
        ("lora.rank=4,,8", ["4,,8"]),
        ("hydra.sweep.dir=/tmp/müller", ["/tmp/müller"]),
        ("+hydra.x=é", ["é"]),
        ("name=1e5", ["1e5"]),
        ("data.name=2026_11", ["2026_11"]),
        ("name=true", ["true"]),
        ("name=1e5,2", ["1e5", 2]),
        ("sample.prompts=[1e5]", [["1e5"]]),
    ],
)
def test_a_text_is_the_text_that_was_written(word: str, values: list[Any]) -> None:
    assert values_of(word) == values


@pytest.mark.parametrize(
    "word",
    [
        *("lora.rank=4,8", "optimizer.lr=1e-4", "seed=range(0,4)", "data.val_path=null", "data.path=/a b,/c", "name="),
        *("data.path='it is'", 'data.path="é"', "data.path=${oc.env:HOME}/x", "sweep=rank", "data.path=glob(*)"),
        *("~lora.rank", "lora.rank", "--rank", "=4", "ключ=1", "lora.target_modules=[to_q,to_v]", "hydra.verbose=true"),
        *("lora.target_modules=[to_q", "optimizer.betas=[0.9,0.99", "lora.rank=rnge(4,8)", "data.path=a\\,b"),
    ],
)
def test_what_hydra_reads_and_what_it_explains_better_stays_as_it_was_written(word: str) -> None:
    assert as_texts([word]) == [word]


def test_an_interpolation_in_a_text_is_one_still() -> None:
    assert as_texts(["hydra.sweep.dir=/tmp/é/${now:%H}"]) == ["hydra.sweep.dir='/tmp/é/${now:%H}'"]


TEXT_KEYS = [key for key in known_keys() if key.endswith(("path", "prefix", "background", "experiment", "root", "uri"))]


@pytest.mark.slow
@given(st.sampled_from(TEXT_KEYS), st.text(st.characters(exclude_characters="\0,\r\n", exclude_categories=["Cs"])))
def test_hydra_never_refuses_the_value_of_a_text(key: str, text: str) -> None:
    assert len(values_of(f"{key}={text}")) == 1, "no comma, so no sweep"
