"""What is suggested: nothing twice, the same again with the same seed, in numbers that people can read."""

from __future__ import annotations

import math

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState

from lora_foundry.config.choices import SEARCHERS
from lora_foundry.search.samplers import sampler_choice
from lora_foundry.search.space import Space, space_of
from lora_foundry.search.unrepeated import Unrepeated

_LISTS = ("lora.rank=2,4,8,16", "data.batch_size=1,2,4")
_INTERVALS = ("optimizer.lr=tag(log,interval(1e-5,1e-2))", "lora.dropout=interval(0,0.5)")


def _space(*words: str) -> Space:
    return space_of(OverridesParser.create().parse_overrides(list(words)), {})


def _asked(name: str, space: Space, count: int, *, seed: int | None = 0, parallel: int = 1) -> list[dict[str, object]]:
    """Values of trials that are told in turn, ``parallel`` of them open at a time."""
    study = optuna.create_study(sampler=Unrepeated(sampler_choice(name).build(space, seed), space))
    waiting: list[optuna.Trial] = []
    for _ in range(count):
        waiting.append(study.ask(fixed_distributions=space.distributions))
        if len(waiting) == parallel:
            one = waiting.pop(0)
            study.tell(one, sum(math.log(float(value) + 1e-6) for value in one.params.values()))
    return [one.params for one in study.trials]


@pytest.mark.parametrize("name", [name for name in SEARCHERS.names() if name != "cmaes"])
def test_every_combination_comes_once(name: str) -> None:
    space = _space(*_LISTS)
    found = _asked(name, space, 12, parallel=5)
    assert len({space.id_of(one) for one in found}) == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "nsga2"])
def test_the_same_seed_gives_the_same_trials_and_numbers_are_short(name: str) -> None:
    space = _space(*_INTERVALS)
    found = _asked(name, space, 15)
    assert found == _asked(name, space, 15)
    assert found != _asked(name, space, 15, seed=1)
    assert all(
        len(f"{value!r}".replace("0.", "").lstrip("0").split("e")[0].replace(".", "")) <= 4
        for one in found
        for value in one.values()
    )
    assert all(1e-5 <= float(str(one["optimizer.lr"])) <= 1e-2 for one in found)


def test_a_grid_is_in_the_order_of_a_sweep_and_goes_on_where_it_was() -> None:
    space = _space(*_LISTS)
    assert [(one["lora.rank"], one["data.batch_size"]) for one in _asked("grid", space, 4)] == [
        (2, 1),
        (2, 2),
        (2, 4),
        (4, 1),
    ]


@pytest.mark.slow
def test_tpe_finds_what_random_does_not() -> None:
    space = _space("optimizer.lr=tag(log,interval(1e-6,1e-1))", "lora.dropout=interval(0,0.5)")

    def best(name: str, seed: int) -> float:
        study = optuna.create_study(sampler=Unrepeated(sampler_choice(name).build(space, seed), space))
        for _ in range(40):
            one = study.ask(fixed_distributions=space.distributions)
            study.tell(one, (math.log10(one.params["optimizer.lr"]) + 3) ** 2 + one.params["lora.dropout"])
        return study.best_value

    seeds = range(3)
    assert sum(best("tpe", seed) for seed in seeds) < sum(best("random", seed) for seed in seeds)


def test_what_was_put_in_the_queue_comes_first_and_the_rest_is_suggested() -> None:
    space = _space(*_LISTS)
    study = optuna.create_study(sampler=Unrepeated(sampler_choice("tpe").build(space, 0), space))
    study.enqueue_trial({"lora.rank": 16})
    study.enqueue_trial({"lora.rank": 16, "data.batch_size": 4})
    first, second = (study.ask(fixed_distributions=space.distributions).params for _ in range(2))
    assert first["lora.rank"] == 16
    assert first["data.batch_size"] in (1, 2), "4 would be what is in the queue already"
    assert second == {"lora.rank": 16, "data.batch_size": 4}


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("grid", _INTERVALS, "optimizer.lr: an interval has no combinations"),
        ("cmaes", _LISTS, "lora.rank: sampler=cmaes searches numbers alone"),
    ],
)
def test_a_sampler_says_what_it_cannot_search(name: str, words: tuple[str, ...], told: str) -> None:
    assert sampler_choice(name).unsuited(_space(*words))[0].startswith(told)
    assert sampler_choice("tpe").unsuited(_space(*words)) == []


def test_failed_trials_are_not_suggested_again() -> None:
    space = _space("lora.rank=2,4")
    study = optuna.create_study(sampler=Unrepeated(sampler_choice("random").build(space, 0), space))
    first = study.ask(fixed_distributions=space.distributions)
    study.tell(first, state=TrialState.FAIL)
    assert study.ask(fixed_distributions=space.distributions).params != first.params
