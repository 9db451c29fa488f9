"""Parsing: types, limits, nearest keys, and all errors at once."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lora_foundry.config import ConfigError, JobConfig, parse
from lora_foundry.config.hints import known_keys
from tests.phrases import WANTS_A_MAPPING

Change = Callable[[dict[str, Any]], dict[str, Any]]
LEAVES = [key for key in known_keys() if ("." in key or key in {"name", "seed", "resume"}) and ".options" not in key]


def problems_of(raw: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    assert all(line in str(caught.value) for line in caught.value.problems)
    return caught.value.problems


def the_problem(raw: Any) -> str:
    (line,) = problems_of(raw)
    return line


def test_the_shipped_defaults_parse_to_the_values_in_their_yaml(raw: dict[str, Any]) -> None:
    job = parse(raw)
    assert (job.lora.rank, job.lora.alpha, job.lora.target_modules) == (8, 8.0, "all-blocks")
    assert (job.trainer.max_steps, job.trainer.epochs, job.trainer.precision) == (400, None, "auto")
    assert job.optimizer.betas == (0.9, 0.999)
    assert job.sample.scales == (0.0, 1.0)
    assert job.sample.every == job.validation.every == "auto"


def test_a_dictconfig_with_interpolations_and_a_hydra_node_parses_as_the_plain_mapping(with_values: Change) -> None:
    raw = with_values({"seed": "${lora.rank}"})
    raw["hydra"] = {"mode": "RUN"}
    job = parse(OmegaConf.create(raw))
    assert job.seed == job.lora.rank == 8


def test_an_unresolvable_interpolation_is_a_config_error(with_values: Change) -> None:
    assert "no.such" in the_problem(OmegaConf.create(with_values({"seed": "${no.such}"})))


def test_a_job_is_frozen_at_every_level(raw: dict[str, Any]) -> None:
    job = parse(raw)
    for name in get_type_hints(JobConfig):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(job, name, None)
    for group in dataclasses.fields(job):
        value = getattr(job, group.name)
        if dataclasses.is_dataclass(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, dataclasses.fields(value)[0].name, None)
    hash(job)  # lists became tuples


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("lora.rnk", "lora.rank"),
        ("lora.r_ank", "lora.rank"),
        ("trainer.max_step", "trainer.max_steps"),
        ("trainer.lr", "optimizer.lr"),
        ("data.batchsize", "data.batch_size"),
        ("sed", "seed"),
        ("optimiser", "optimizer"),
        ("lora.batch_size", "data.batch_size"),
        ("sample.evry", "sample.every"),  # validation.every is as near, but in another group
        ("validation.max_steps", "trainer.max_steps"),  # validation.max_images is nearer by group only
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_key(with_values: Change, key: str, nearest: str) -> None:
    assert the_problem(with_values({key: 1})) == f"{key}: no such key; did you mean {nearest!r}?"


def test_an_unknown_key_like_no_other_lists_what_is_allowed_there(with_values: Change) -> None:
    line = the_problem(with_values({"objective.zzzzzz": 1}))
    assert line == "objective.zzzzzz: no such key; allowed here: noise_offset, snr_gamma"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("lora.rank", "eight", "got 'eight' (str), allowed is a whole number"),
        ("lora.rank", 8.0, "got 8.0 (float), allowed is a whole number"),
        ("lora.rank", True, "got True (bool), allowed is a whole number"),
        ("lora.rank", None, "got null, allowed is a whole number"),
        ("lora.rank", 0, "got 0 (int), allowed is a whole number, from 1 to 1024"),
        ("lora.rank", 1025, "got 1025 (int), allowed is a whole number, from 1 to 1024"),
        ("lora.dropout", 1.0, "allowed is a finite number, from 0 to 0.99"),
        ("lora.use_rslora", "yes", "got 'yes' (str), allowed is true or false"),
        ("lora.use_rslora", 1, "got 1 (int), allowed is true or false"),
        ("lora.init", "kaimig", "allowed is one of kaiming, gaussian; did you mean 'kaiming'?"),
        ("trainer.precision", "bf16-mixd", "did you mean 'bf16-mixed'?"),
        ("trainer.precision", "16-true", "allowed is one of auto, 32-true, 16-mixed, bf16-true, bf16-mixed, 64-true"),
        ("trainer.max_grad_norm", 0, "allowed is a finite number, more than 0 or null"),
        ("optimizer.lr", float("nan"), "got nan (float), allowed is a finite number"),
        ("optimizer.lr", float("inf"), "got inf (float), allowed is a finite number"),
        ("optimizer.lr", 10**400, "allowed is a finite number"),
        ("optimizer.lr", -1e-4, "allowed is a finite number, more than 0"),
        ("data.batch_size", 0, "from 1 to 4096"),
        ("data.name", "../up", "allowed is a text, letters a to z, digits, '.', '_' and '-'"),
        ("data.path", "  ", "allowed is a text, not empty"),
        ("sample.seeds", [0, "x"], "allowed is a list of whole numbers"),
        ("sample.seeds", 3, "got 3 (int), allowed is a list of whole numbers"),
        ("sample.prompts", [None], "allowed is a list of texts"),
        ("seed", 2**63, f"from 0 to {2**63 - 1}"),
        ("seed", -1, "got -1 (int)"),
        ("lora", None, "got null, allowed is a group of keys"),
        ("lora", 8, "got 8 (int), allowed is a group of keys"),
    ],
)
def test_a_wrong_value_says_what_was_got_and_what_is_allowed(
    with_values: Change, key: str, value: Any, words: str
) -> None:
    line = the_problem(with_values({key: value}))
    assert line.startswith(f"{key}: ")
    assert words in line


@pytest.mark.parametrize(
    ("key", "value", "parsed"),
    [
        ("lora.rank", 1, 1),
        ("lora.rank", 1024, 1024),
        ("lora.dropout", 0.99, 0.99),
        ("optimizer.lr", 1, 1.0),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("trainer.max_grad_norm", None, None),
        ("name", 8, "8"),
        ("lora.target_modules", ["to_q", "to_v"], ("to_q", "to_v")),
        ("data.val_fraction", 0.5, 0.5),
    ],
)
def test_values_on_the_edge_of_a_limit_are_allowed(with_values: Change, key: str, value: Any, parsed: Any) -> None:
    found: Any = parse(with_values({key: value}))
    for part in key.split("."):
        found = getattr(found, part)
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_key_is_required(raw: dict[str, Any], leaf: str) -> None:
    *groups, name = leaf.split(".")
    node = raw
    for group in groups:
        node = node[group]
    del node[name]
    assert the_problem(raw) == f"{leaf}: no value; give one with {leaf}=..."
    node[name] = "???"
    assert the_problem(raw).startswith(f"{leaf}: no value; give one with {leaf}=...")


def test_wrong_keys_values_limits_and_broken_rules_of_other_groups_come_at_once(with_values: Change) -> None:
    raw = with_values(
        {
            "lora.rnk": 4,
            "lora.rank": "four",
            "lora.alpha": "double",
            "optimizer.lr": -1,
            "data.resolution": 65,
            "trainer.max_steps": None,
            "objective.snr_gamma": "five",
        }
    )
    starts = [line.split(":")[0].split("=")[0] for line in problems_of(raw)]
    assert starts == [
        "lora.alpha",
        "lora.rnk",
        "lora.rank",
        "objective.snr_gamma",
        "optimizer.lr",
        "trainer.max_steps",
        "data.resolution",
    ]


def test_a_wrong_rank_does_not_blame_alpha(with_values: Change) -> None:
    assert the_problem(with_values({"lora.rank": -1})).startswith("lora.rank: got -1")
    assert the_problem(with_values({"lora.rank": -1, "lora.alpha": "2x"})).startswith("lora.rank: got -1")


@pytest.mark.parametrize("raw_value", [7, "text", [1], None])
def test_something_that_is_no_mapping_is_an_error(raw_value: Any) -> None:
    assert WANTS_A_MAPPING in the_problem(raw_value)


@pytest.mark.parametrize(
    ("rank", "alpha", "resolved"),
    [
        (8, None, 8.0),
        (16, None, 16.0),
        (8, 4, 4.0),
        (8, 0.5, 0.5),
        (8, "2x", 16.0),
        (8, "0.5x", 4.0),
        (16, ".5X", 8.0),
        (16, "1.5 x", 24.0),
    ],
)
def test_alpha_is_the_rank_a_number_or_a_ratio_of_the_rank(
    with_values: Change, rank: int, alpha: Any, resolved: float
) -> None:
    assert parse(with_values({"lora.rank": rank, "lora.alpha": alpha})).lora.alpha == resolved


@pytest.mark.parametrize("alpha", ["16", "x", "twice", "nanx", "infx", "-1x", "1e400x", ""])
def test_a_text_that_is_no_ratio_is_refused(with_values: Change, alpha: str) -> None:
    assert "a ratio of the rank such as 0.5x" in the_problem(with_values({"lora.alpha": alpha}))


@pytest.mark.parametrize("alpha", [0, -8, "0x", True, [8]])
def test_an_alpha_that_is_not_above_zero_is_refused(with_values: Change, alpha: Any) -> None:
    assert "a finite number, more than 0" in the_problem(with_values({"lora.alpha": alpha}))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def outcome(raw: Any) -> JobConfig | list[str]:
    try:
        return parse(raw)
    except ConfigError as error:
        return error.problems


@pytest.mark.slow
@given(key=st.sampled_from(LEAVES), value=anything)
def test_any_value_anywhere_parses_or_gives_a_config_error(with_values: Change, key: str, value: Any) -> None:
    raw = with_values({key: value})
    before = copy.deepcopy(raw)
    found = outcome(raw)
    if isinstance(found, list):
        assert found
        assert all(key.split(".", maxsplit=1)[0] in line for line in found if "max_steps" not in line)
    assert outcome(raw) == found
    assert repr(raw) == repr(before), "parse must not change its argument"


@pytest.mark.slow
@given(raw=anything)
def test_any_tree_parses_or_gives_a_config_error(raw: Any) -> None:
    with pytest.raises(ConfigError):
        parse(raw)


@pytest.mark.slow
@given(
    rank=st.integers(1, 1024),
    lr=st.floats(1e-8, 1.0),
    dropout=st.floats(0.0, 0.99),
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(11, 10_000),
)
def test_every_value_within_the_limits_comes_back_unchanged(
    with_values: Change, rank: int, lr: float, dropout: float, seed: int, steps: int
) -> None:
    job = parse(
        with_values(
            {
                "lora.rank": rank,
                "optimizer.lr": lr,
                "lora.dropout": dropout,
                "seed": seed,
                "trainer.max_steps": steps,
            }
        )
    )
    assert (job.lora.rank, job.lora.alpha, job.optimizer.lr, job.lora.dropout, job.seed, job.trainer.max_steps) == (
        rank,
        float(rank),
        lr,
        dropout,
        seed,
        steps,
    )
