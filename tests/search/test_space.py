"""The space of a search: Hydra's grammar in, words of a command line out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lora_foundry.config.errors import SweepError
from lora_foundry.search.space import Space, space_of


def space(*words: str, conditions: Mapping[str, str] | None = None) -> Space:
    return space_of(OverridesParser.create().parse_overrides(list(words)), conditions or {})


@pytest.mark.parametrize(
    ("word", "distribution"),
    [
        ("lora.rank=4,8,16", CategoricalDistribution((4, 8, 16))),
        ("lora.rank=choice(4,8,4)", CategoricalDistribution((4, 8))),
        ("optimizer=adamw,prodigy", CategoricalDistribution(("adamw", "prodigy"))),
        ("lora.alpha=0.5x,1x,null", CategoricalDistribution(("0.5x", "1x", None))),
        ("lora.use_rslora=true,false", CategoricalDistribution((True, False))),
        ("lora.rank=range(4,16,4)", IntDistribution(4, 12, step=4)),  # Hydra's: 16 is not in it
        ("lora.rank=range(16,4,-4)", IntDistribution(8, 16, step=4)),
        ("lora.dropout=range(0.0,0.3,0.1)", FloatDistribution(0.0, 0.2, step=0.1)),
        ("optimizer.lr=interval(1e-4,1e-2)", FloatDistribution(1e-4, 1e-2)),
        ("optimizer.lr=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("lora.rank=interval(4,64)", IntDistribution(4, 64)),  # a rank is a whole number
        ("lora.rank=tag(log,interval(4,64))", IntDistribution(4, 64, log=True)),
        ("optimizer.lr=int(interval(1,9))", IntDistribution(1, 9)),
        ("optimizer.lr=tag(int,interval(1,9))", IntDistribution(1, 9)),
    ],
)
def test_what_the_grammar_spans(word: str, distribution: object) -> None:
    (one,) = space(word).dimensions
    assert one.distribution == distribution


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "optimizer.lr=interval(1e-2,1e-4)",
            "got an interval from 0.01 to 0.0001, allowed is from a number to a larger",
        ),
        ("optimizer.lr=interval(1,1)", "got an interval from 1 to 1"),
        ("optimizer.lr=tag(log,interval(0,1))", "got a logarithm from 0, allowed is from a number above 0"),
        ("lora.target_modules=interval(0,1)", "lora.target_modules takes none; list values"),
        ("lora.rank=interval(4.5,8)", "lora.rank takes whole numbers"),
        ("lora.rank=range(4,4)", "no value left to search"),
        ("lora.rank=tag(log,range(1,8))", "a range has equal steps"),
        ("seed=1", "a search needs something to search"),
    ],
)
def test_what_cannot_be_searched_is_told_with_what_can(word: str, told: str) -> None:
    with pytest.raises(SweepError, match=told.replace("(", r"\(")):
        space(word)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SweepError) as caught:
        space("optimizer.lr=interval(1,0)", "lora.dropout=tag(log,interval(0,1))")
    assert len(caught.value.problems) == 2


def test_a_trial_is_words_for_the_composer_those_that_are_set_first() -> None:
    made = space("seed=3", "lora.rank=4,8", "lora.alpha=0.5x,null", "optimizer.lr=interval(1e-5,1e-2)")
    values: dict[str, Any] = {"lora.rank": 8, "lora.alpha": None, "optimizer.lr": 3.162e-4}
    assert made.words(values) == ["seed=3", "lora.rank=8", "lora.alpha=null", "optimizer.lr=0.0003162"]


def test_of_a_key_that_is_given_twice_the_last_counts_and_hydras_own_are_no_part_of_a_trial() -> None:
    made = space("lora.rank=4,8", "lora.rank=2,3", "hydra.launcher.pack_size=4")
    assert [one.values for one in made.dimensions] == [(2, 3)]
    assert made.fixed == ()


def test_a_key_with_a_condition_is_there_where_that_holds() -> None:
    made = space(
        "optimizer=adamw,prodigy",
        "optimizer.options.d_coef=interval(0.5,2)",
        conditions={"optimizer.options.d_coef": "optimizer=prodigy"},
    )
    with_it = {"optimizer": "prodigy", "optimizer.options.d_coef": 1.5}
    without = {"optimizer": "adamw", "optimizer.options.d_coef": 1.5}
    assert made.words(with_it) == ["optimizer=prodigy", "optimizer.options.d_coef=1.5"]
    assert made.words(without) == ["optimizer=adamw"]
    assert made.id_of(without) == made.id_of({**without, "optimizer.options.d_coef": 0.7})
    assert made.id_of(with_it) != made.id_of({**with_it, "optimizer.options.d_coef": 0.7})


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"seed": "lora.rank=4"}, "allowed is another searched key"),
        ({"lora.rank": "seed=4"}, "allowed is another searched key"),
        ({"lora.dropout": "lora.rank=5"}, "which is not in lora.rank=4,8"),
        ({"lora.dropout": "lora.rank=4", "lora.rank": "lora.dropout=0.1"}, "has a condition itself"),
    ],
)
def test_a_condition_is_about_what_is_searched(condition: dict[str, str], told: str) -> None:
    with pytest.raises(SweepError, match=told):
        space("lora.rank=4,8", "lora.dropout=0.0,0.1", conditions=condition)


def test_every_end_of_every_dimension_is_in_the_probes() -> None:
    made = space("lora.rank=4,8,16", "optimizer.lr=interval(1e-5,1e-2)")
    assert {probe["lora.rank"] for probe in made.probes()} == {4, 8, 16}
    assert {probe["optimizer.lr"] for probe in made.probes()} == {1e-5, 1e-2}


def test_combinations_are_counted_as_adapters() -> None:
    made = space("optimizer=adamw,prodigy", "lora.dropout=0.0,0.1", conditions={"lora.dropout": "optimizer=prodigy"})
    ids = made.ids()
    assert ids is not None
    assert len(ids) == 3
    assert space("optimizer.lr=interval(1e-5,1e-2)").ids() is None
    assert space("seed=range(0,20000)").ids() is None, "too many to be gone through"


def test_values_that_people_write_are_found_in_the_space() -> None:
    made = space("lora.rank=4,8", "lora.alpha=0.5x,null", "optimizer.lr=interval(1e-5,1e-2)", "seed=range(0,9,3)")
    given = {"lora.rank": 8, "lora.alpha": None, "optimizer.lr": "1e-3", "seed": 3}
    assert made.of_words(given, "here") == {"lora.rank": 8, "lora.alpha": None, "optimizer.lr": 1e-3, "seed": 3}
    with pytest.raises(SweepError) as caught:
        made.of_words({"lora.rank": 5, "optimizer.lr": 1, "seed": 4, "lora.rnak": 4}, "here")
    told = "\n".join(caught.value.problems)
    assert "here: lora.rnak is not searched" in told
    assert "here: lora.rank: got 5, which is not in lora.rank=4,8" in told
    assert "here: optimizer.lr: got 1, which is not in optimizer.lr from 1e-05 to 0.01" in told
    assert "here: seed: got 4, which is not in seed from 0 to 6 by 3" in told
