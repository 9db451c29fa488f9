"""What a training says that it does is what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora_foundry.tasks.denoising import Denoising, Prompts
from lora_foundry.training.fit import train_pack
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import LogEvent
from tests.training.world import WIDTH, Spec, make_denoiser, make_member, train

_SHORT = ("trainer.max_steps=4", "scheduler=constant", "validation.every=2")


def _said(specs: list[Spec], folder: Path) -> list[tuple[str, str]]:
    return [(one.level, one.message) for one in train(specs, folder).events if isinstance(one, LogEvent)]


def test_everything_between_steps_is_told_and_nothing_that_is_not_done(tmp_path: Path) -> None:
    said = _said([Spec("x", (*_SHORT, "sample=none"))], tmp_path)
    assert said == [
        ("info", "scoring the base"),
        ("info", "training"),
        ("stage", "scoring x"),
        ("info", "scoring x"),
        ("info", "exporting x"),
        ("info", "saving a checkpoint of x"),
    ]


class Black:
    """Decodes anything to black pixels."""

    pixels_per_cell = 8

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(latents), 8, 8, 3, dtype=torch.uint8)

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("every", ["null", "2"])
def test_pictures_are_told_of_where_they_are_drawn(every: str, tmp_path: Path) -> None:
    drawn = ("sample=default", "sample.prompts=[one]", f"sample.every={every}", "sample.steps=2", "data.resolution=64")
    member = make_member(Spec("x", (*_SHORT, *drawn)), tmp_path)
    states = torch.zeros(2, 5, WIDTH, dtype=torch.float64)
    known = {"encoder_hidden_states": states[:1]}
    prompts = Prompts(texts=("one",), conditioning=known, empty={"encoder_hidden_states": states[1:]})
    member.material = replace(member.material, prompts=prompts)
    sink = ListSink(tmp_path)
    train_pack(Denoising(make_denoiser(torch.float64), Black()), [member], sink=sink, folder=tmp_path / "pack")
    said = [(one.level, one.message) for one in sink.events if isinstance(one, LogEvent)]
    assert ("info", "drawing the first pictures") in said
    assert ("info", "drawing pictures of x") in said
    assert (("stage", "drawing pictures of x") in said) == (every == "2")


@pytest.mark.slow
def test_several_that_end_together_are_counted(tmp_path: Path) -> None:
    said = _said([Spec("x", (*_SHORT, "sample=none")), Spec("y", (*_SHORT, "sample=none"))], tmp_path)
    assert ("info", "exporting 2 adapters") in said
