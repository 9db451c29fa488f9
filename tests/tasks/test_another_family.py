"""A family and a task that the project does not have train as its own do: nothing in training knows a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from lora_foundry.config import ConfigError, parse
from lora_foundry.config.compose import compose_job
from lora_foundry.config.hints import known_keys
from lora_foundry.training.checkpoint import Part
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import ImageEvent, JudgedEvent, MetricsEvent, StateEvent, TagsEvent
from tests.tasks.numbers.families.regression.base import READER
from tests.tasks.numbers.training import composed, prepared, raw_job, there, train
from tests.training.world import distance

LIMIT = 1e-9  # as in the equality contract
SPECS = {
    "a": ("lora.rank=2", "data.batch_size=3"),
    "b": ("lora.rank=4", "data.batch_size=2", "trainer.accumulate=2", "seed=5", "lora.target_modules=[first]"),
    "c": (
        "lora.rank=3",
        "data.batch_size=1",
        "lora.dropout=0.2",
        "trainer.max_steps=15",
        "lora.target_modules=[second,read]",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _family() -> Iterator[None]:
    with there():
        yield


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Part], list[dict[str, Any]], Path]:
    """All three together."""
    root = tmp_path_factory.mktemp("packed")
    return *train(SPECS, root), root


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_packed_member_of_another_family_equals_its_solo_run(name: str, packed: Any, tmp_path: Path) -> None:
    solo, _ = train({name: SPECS[name]}, tmp_path)
    assert solo[name].count.step == packed[0][name].count.step > 10
    assert distance(packed[0][name].weights, solo[name].weights) < LIMIT


def test_it_is_judged_shown_and_exported_and_it_learns(packed: Any) -> None:
    parts, events, root = packed
    assert parts.keys() == SPECS.keys()
    for job, name in enumerate(SPECS):
        own = [event for event in events if event.job == job]
        ended = [event.summary for event in own if isinstance(event, StateEvent)][-1]
        assert ended.val_loss_rel < 0.99, name
        assert load_file(root / ended.file).keys()
        scores = [event.values for event in own if isinstance(event, MetricsEvent) and "val/loss" in event.values]
        assert all("val/loss_large" in one for one in scores)
        judged = [event.by_item for event in own if isinstance(event, JudgedEvent)]
        assert judged[-1].items == ("pair-0", "pair-1", "pair-2"), "its task says what is one item"
        assert judged[-1].mean == pytest.approx(ended.val_loss_rel, rel=1e-9)
        assert len(judged) == len(scores)
        shown = [root / event.path for event in own if isinstance(event, ImageEvent)]
        assert shown[-1].read_text() == f"{name} at {parts[name].count.step}"


def test_adapters_are_in_all_of_its_networks_and_in_their_files_under_the_names_of_each(packed: Any) -> None:
    parts, events, root = packed
    layers = {name: {key.rpartition(".")[0] for key in part.weights} for name, part in parts.items()}
    assert layers == {"a": {"first", "second", READER}, "b": {"first"}, "c": {"second", READER}}
    assert all(part.weights[f"{READER}.B"].any() for name, part in parts.items() if READER in layers[name])
    for job, name in enumerate(SPECS):
        states = [event for event in events if event.job == job and isinstance(event, StateEvent)]
        keys = load_file(root / states[-1].summary.file).keys()
        assert any(key.startswith("text_encoder.text_model.read") for key in keys) == (READER in layers[name])
        assert any(key.startswith("unet.") for key in keys)


@pytest.mark.slow
def test_its_keys_are_its_own_and_those_of_others_are_refused_by_name() -> None:
    assert (composed().model.width, composed().objective.third) == (6, 2.0)  # type: ignore[attr-defined]
    raw = raw_job()
    raw["objective"] |= {"snr_gamma": 5.0}
    raw["model"] |= {"prediction_type": "auto", "widht": 3}
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    assert caught.value.problems == [
        "model.prediction_type: no key of bases of this model.family; those of sd, sdxl have it",
        "model.widht: no such key; did you mean 'model.width'?",
        "objective.snr_gamma: no key of bases of this model.family; those of sd, sdxl have it",
    ]


@pytest.mark.slow
def test_nobody_elses_bases_have_its_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_job("+objective.third=2.0")
    assert caught.value.problems == [
        "objective.third: no key of bases of this model.family; those of regression have it"
    ]
    assert {"objective.third", "objective.snr_gamma", "model.width"} <= set(known_keys())


@pytest.mark.slow
def test_its_data_is_looked_at_and_its_members_are_made_as_those_of_pictures_are(tmp_path: Path) -> None:
    sink = ListSink(tmp_path)
    jobs = {"one": ("data.name=numbers1",), "few": ("data.name=numbers4",), "many": ("data.name=numbers40",)}
    members = prepared(jobs, tmp_path, sink)
    assert {member.name: len(member.material.train[0]) for member in members} == {"few": 4, "many": 40}
    failed = [(event.job, event.error) for event in sink.events if isinstance(event, StateEvent)]
    assert [(job, "got 1 questions" in str(error)) for job, error in failed] == [(0, True)]
    tags = [event.values for event in sink.events if isinstance(event, TagsEvent) and event.job == 1]
    assert tags == [{"warning.numbers": "few questions"}]
