"""Choices that are files: found by their names, refused by their names, read without what they train with."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_foundry.config import ConfigError, parse, parse_stored
from lora_foundry.config.choices import CHOICES, ENGINES, FORMATS, OPTIMIZERS, SAMPLERS, Choice, Choices, Options
from lora_foundry.config.digest import config_digest
from lora_foundry.config.errors import SweepError
from lora_foundry.config.hints import hint_of, known_keys
from lora_foundry.config.keys import choices_of
from lora_foundry.config.launcher import Settings
from tests.root import PROJECT_ROOT

Change = Callable[[dict[str, Any]], dict[str, Any]]
KINDS = (*CHOICES, ENGINES)
EVERY = [(choices, name) for choices in KINDS for name in choices.names()]
_LOADS_ALL = """
import sys
from lora_foundry.config.choices import CHOICES, ENGINES, Choice
for choices in (*CHOICES, ENGINES):
    for name in choices.names():
        choices.load(name, Choice)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
_HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "prodigyopt",
    "diffusers",
    "transformers",
    "peft",
    "safetensors",
    "lightning",
    "mlflow",
}


@pytest.mark.parametrize("choices", KINDS, ids=lambda choices: choices.key)
def test_names_are_those_of_the_files(choices: Choices) -> None:
    folder = PROJECT_ROOT / "src" / Path(*choices.package.split("."))
    found = [*folder.glob("*.py"), *(file.parent for file in folder.glob("*/__init__.py"))]
    assert list(choices.names()) == sorted(file.stem for file in found if file.stem != "__init__")
    assert choices.names()


@pytest.mark.parametrize(("choices", "name"), EVERY, ids=lambda one: one if isinstance(one, str) else one.key)
def test_each_file_brings_a_choice_whose_options_are_frozen_and_can_be_left_out(choices: Choices, name: str) -> None:
    options = choices.load(name, Choice).options()
    assert isinstance(options, Options)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        options.other = 1  # type: ignore[attr-defined]


@pytest.mark.slow
def test_no_choice_imports_what_it_is_built_with() -> None:
    done = subprocess.run([sys.executable, "-c", _LOADS_ALL], capture_output=True, text=True, check=True)
    assert not _HEAVY & set(done.stdout.split())


def test_an_unknown_name_is_refused_with_those_that_there_are(with_values: Change) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_values({"optimizer.name": "adamww", "optimizer.options": {"d_coef": 2.0}}))
    (line,) = caught.value.problems
    assert line == (
        "optimizer.name: got 'adamww' (str), allowed is one of adafactor, adamw, prodigy; did you mean 'adamw'?"
    )
    with pytest.raises(LookupError, match="allowed is one of adafactor, adamw, prodigy"):
        OPTIMIZERS.load("adamww", Choice)


def test_an_unknown_engine_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        SweepError, match=r"launcher.engine: got 'lcal', allowed is one of local; did you mean 'local'\?"
    ):
        Settings(engine="lcal").check()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.captions", "cvs", "got 'cvs' (str), allowed is one of auto, csv, files, folder, jsonl, name, prefix"),
        ("sample.sampler", "euler", "got 'euler' (str), allowed is one of ddim, dpmpp_2m or null"),
        ("validation.metrics", ["loss", "mae"], "got ['loss', 'mae'] (list), allowed is a list of any of cosine, loss"),
        ("model.family", "sd3", "got 'sd3' (str), allowed is one of sd, sdxl"),
    ],
)
def test_what_can_be_left_out_or_be_several_is_refused_alike(
    with_values: Change, key: str, value: object, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_values({key: value}))
    assert [line.startswith(f"{key}: {words}") for line in caught.value.problems] == [True]


def test_words_that_a_key_allows_are_completed() -> None:
    assert choices_of("data.captions") == [*FORMATS.names()]
    assert choices_of("sample.sampler") == [*SAMPLERS.names()]


def test_a_file_without_a_choice_of_its_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "of_another_kind"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "empty.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TypeError, match=r"empty\.py: CHOICE is None, needed is a Choice"):
        Choices("x.y", "of_another_kind").load("empty", Choice)


PRODIGY = {"optimizer.name": "prodigy", "optimizer.lr": 1.0}
WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"optimizer.options": {"d_coef": 2.0}},
        "optimizer.options.d_coef: no option of optimizer.name=adamw; it has none",
    ),
    (
        PRODIGY | {"optimizer.options": {"d_cof": 2.0}},
        "optimizer.options.d_cof: no option of optimizer.name=prodigy; allowed are d_coef, use_bias_correction, ",
    ),
    (
        PRODIGY | {"optimizer.options": {"d_coef": 0}},
        "optimizer.options.d_coef: got 0 (int), allowed is a finite number, more than 0",
    ),
    (PRODIGY | {"optimizer.options": 3}, "optimizer.options: got 3 (int), allowed is a group of keys"),
]


@pytest.mark.parametrize(("values", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_options_are_of_the_choice_that_was_made(with_values: Change, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_values(values))
    (line,) = caught.value.problems
    assert line.startswith(words)


@pytest.mark.parametrize("given", [{}, {"optimizer.options": None}, {"optimizer.options": {}}], ids=str)
def test_options_that_are_not_given_are_the_choices_own(with_values: Change, given: dict[str, Any]) -> None:
    job = parse(with_values(PRODIGY | given))
    assert dataclasses.asdict(job.optimizer.options) == {
        "d_coef": 1.0,
        "use_bias_correction": False,
        "safeguard_warmup": False,
    }
    assert hash(job) == hash(parse_stored(with_values(PRODIGY | given)))


def test_an_option_decides_the_adapter_where_it_is_not_the_default(with_values: Change) -> None:
    plain, said, other = (
        config_digest(parse(with_values(PRODIGY | {"optimizer.options": options})))
        for options in ({}, {"d_coef": 1.0}, {"d_coef": 2.0})
    )
    assert plain == said != other


def test_options_are_keys_like_any_other() -> None:
    assert "optimizer.options.d_coef" in known_keys()
    assert hint_of("optimizer.options.use_bias_correction") is bool
    assert hint_of("optimizer.options.momentum") is None
