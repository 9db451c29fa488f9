"""What a training says that it does is what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora_foundry.tasks.denoising import Denoising, Prompts
from lora_foundry.training.fit import train_pack
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import Event, ImageEvent, LogEvent, MetricsEvent
from tests.training.world import WIDTH, Spec, make_denoiser, make_member, train

_SHORT = ("trainer.max_steps=4", "scheduler=constant", "validation.every=2")


def _said(specs: list[Spec], folder: Path) -> list[tuple[str, str]]:
    return [(one.level, one.message) for one in train(specs, folder).events if isinstance(one, LogEvent)]


@pytest.mark.slow
def test_everything_between_steps_is_told_and_nothing_that_is_not_done(tmp_path: Path) -> None:
    said = _said([Spec("x", (*_SHORT, "sample=none"))], tmp_path)
    assert said == [
        ("info", "scoring the base"),
        ("info", "training"),
        ("stage", "scoring x"),
        ("stage", "exporting x"),  # it is the best so far
        ("info", "scoring x"),
        ("info", "exporting x"),
        ("info", "saving a checkpoint of x"),
    ]


class Black:
    """Decodes anything to black pixels."""

    pixels_per_cell = 8

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(latents), 8, 8, 3, dtype=torch.uint8)

    def leave(self) -> None:
        """Nothing to move."""

    def close(self) -> None:
        """Nothing to close."""


_DRAWS = ("sample=default", "sample.prompts=[one]", "sample.steps=2", "data.resolution=64")


def _drawn(words: tuple[str, ...], tmp_path: Path) -> list[Event]:
    """What a job said that drew one prompt."""
    member = make_member(Spec("x", (*_SHORT, *_DRAWS, *words)), tmp_path)
    states = torch.zeros(2, 5, WIDTH, dtype=torch.float64)
    known = {"encoder_hidden_states": states[:1]}
    prompts = Prompts(texts=("one",), conditioning=known, empty={"encoder_hidden_states": states[1:]})
    member.material = replace(member.material, prompts=prompts)
    sink = ListSink(tmp_path)
    train_pack(Denoising(make_denoiser(torch.float64), Black()), [member], sink=sink, folder=tmp_path / "pack")
    return sink.events


@pytest.mark.slow
@pytest.mark.parametrize("every", ["null", "2"])
def test_pictures_are_told_of_where_they_are_drawn(every: str, tmp_path: Path) -> None:
    events = _drawn((f"sample.every={every}",), tmp_path)
    said = [(one.level, one.message) for one in events if isinstance(one, LogEvent)]
    assert ("info", "drawing the first pictures") in said
    assert ("info", "drawing pictures of x") in said
    assert (("stage", "drawing pictures of x") in said) == (every == "2")


def test_by_themselves_scores_and_pictures_come_every_twelve_samples_of_a_row(tmp_path: Path) -> None:
    """A score of one row comes every 12 samples, a drawing of two every 24."""
    rare = ("validation.every=auto", "validation.timesteps=1", "validation.max_images=1")
    events = _drawn((*rare, "sample.every=auto", "sample.steps=1", "data.batch_size=12"), tmp_path)
    scored = [one.step for one in events if isinstance(one, MetricsEvent) and "val/loss" in one.values]
    assert scored == [0, 1, 2, 3, 4]
    assert {one.step for one in events if isinstance(one, ImageEvent)} == {0, 2, 4}


@pytest.mark.slow
def test_several_that_end_together_are_counted(tmp_path: Path) -> None:
    said = _said([Spec("x", (*_SHORT, "sample=none")), Spec("y", (*_SHORT, "sample=none"))], tmp_path)
    assert ("info", "exporting 2 adapters") in said
