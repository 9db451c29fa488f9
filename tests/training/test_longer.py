"""A finished job trains longer, and ends as one that had been asked for that length."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora_foundry.config.length import total_steps
from lora_foundry.config.longer import Length, write_length
from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.training.job_config import read_config
from lora_foundry.wire.events import LogEvent, StateEvent, TagsEvent
from lora_foundry.wire.summary import Summary
from tests.training.stored import store
from tests.training.test_keeping import UNSTEADY
from tests.training.world import Spec, Trained, train

CONSTANT = ("scheduler=constant", "lora.dropout=0.2", "trainer.accumulate=2")


def _longer(root: Path, spec: Spec, steps: int, after: int) -> Trained:
    """What ``resume=<job> trainer.max_steps=<steps>`` makes of a job that took ``after`` steps."""
    write_length(root / spec.name, Length(max_steps=steps, epochs=None, after=after), spec.config())
    return _resumed(root, spec, steps)


def _resumed(root: Path, spec: Spec, steps: int) -> Trained:
    asked = Spec(spec.name, (*spec.overrides, f"trainer.max_steps={steps}"))
    return train([asked], root, resume=frozenset([spec.name]))


def _end(trained: Trained) -> Summary:
    ends = [e for e in trained.events if isinstance(e, StateEvent) and e.state in ("FINISHED", "FAILED")]
    assert ends[-1].summary is not None, ends[-1].error
    return ends[-1].summary


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "prodigy"])
def test_at_a_constant_rate_it_ends_bitwise_as_if_that_length_had_been_asked_for(
    optimizer: str, tmp_path: Path
) -> None:
    words = (*CONSTANT, f"optimizer={optimizer}")
    short, whole = Spec("x", (*words, "trainer.max_steps=3")), Spec("x", (*words, "trainer.max_steps=6"))
    train([short], tmp_path / "a")
    longer, once = _longer(tmp_path / "a", short, 6, after=3), train([whole], tmp_path / "b")
    assert _end(longer).steps == 6
    assert longer.weights("x").keys() == once.weights("x").keys()
    assert all(torch.equal(value, once.weights("x")[key]) for key, value in longer.weights("x").items())
    for key, value in longer.parts["x"].optimizer.tensors.items():
        assert torch.equal(value, once.parts["x"].optimizer.tensors[key]), key
    assert longer.parts["x"].count.ordinal == once.parts["x"].count.ordinal


def test_a_worker_reads_the_length_that_the_job_has_now(tmp_path: Path) -> None:
    folder = store(tmp_path / "x", "trainer.max_steps=3")
    before = read_config(folder)
    write_length(folder, Length(max_steps=3, epochs=2.5, after=3), before)
    now = read_config(folder)
    assert now == read_config(folder, as_asked=True)
    assert total_steps(now, n_images=8) == 5
    assert now == replace(before, trainer=replace(before.trainer, epochs=2.5))


@pytest.mark.slow
def test_no_other_change_goes_on(tmp_path: Path) -> None:
    train([short := Spec("x", (*CONSTANT, "trainer.max_steps=2"))], tmp_path)
    write_length(tmp_path / "x", Length(max_steps=4, epochs=None, after=2), short.config())
    other = Spec("x", (*short.overrides, "trainer.max_steps=4", "optimizer.lr=1e-5"))
    told = train([other], tmp_path, resume=frozenset(["x"]))
    (error,) = [e.error for e in told.events if isinstance(e, StateEvent) and e.state == "FAILED"]
    assert "the checkpoint was made with another configuration" in str(error)


@pytest.mark.slow
def test_the_best_of_before_stays_though_its_file_was_the_last_one(tmp_path: Path) -> None:
    """Its loss is lowest at step 3, where it ended first."""
    short = Spec("x", (*UNSTEADY, "trainer.max_steps=3"))
    train([short], tmp_path)
    folder = tmp_path / "x" / "adapter"
    before = {name: one.up.tolist() for name, one in read_adapter(folder / "x.safetensors").unet.items()}
    assert json.loads((folder / "best.json").read_text())["file"] == "x.safetensors"
    longer = _longer(tmp_path, short, 4, after=3)
    end = _end(longer)
    assert (end.steps, end.best_step) == (4, 3)
    told = [e.values for e in longer.events if isinstance(e, TagsEvent) and "best_file" in e.values]
    assert [one["best_file"] for one in told] == ["x/adapter/best/x-step000003.safetensors"]
    file = json.loads((folder / "best.json").read_text())["file"]
    assert file == "best/x-step000003.safetensors"
    assert {name: one.up.tolist() for name, one in read_adapter(folder / file).unet.items()} == before
    assert {name: one.up.tolist() for name, one in read_adapter(folder / "x.safetensors").unet.items()} != before


@pytest.mark.slow
def test_one_that_stopped_early_goes_on_and_its_patience_begins_anew(tmp_path: Path) -> None:
    """Its loss is lowest after 3 steps until it is lower after 6: see the patience's own tests."""
    early = Spec("x", (*UNSTEADY, "trainer.max_steps=9", "trainer.patience=4"))
    first = _end(train([early], tmp_path))
    assert (first.steps, first.best_step) == (5, 3)
    again = _end(_resumed(tmp_path, early, 9))
    assert again.steps == 5, "nobody asked for more"
    went_on = _longer(tmp_path, early, 9, after=5)
    end = _end(went_on)
    assert end.best_step == 9 == end.steps
    assert end.stopped_early is None
    assert not [e for e in went_on.events if isinstance(e, LogEvent) and "stopped early" in e.message]
