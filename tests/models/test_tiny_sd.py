"""What holds for the embedded base, whatever its weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.models import open_base
from lora_foundry.models.sampling import decoded, draw
from tests.models.conftest import CPU, model_config


@pytest.fixture(scope="module")
def base(tiny_sd: Path) -> Any:
    return open_base(model_config(tiny_sd))


def test_its_sizes_fit_the_shipped_model_config(base: Any) -> None:
    assert base.stride == 16
    assert base.pixels_per_cell == 4
    assert base.max_tokens == 32
    assert 3 <= base.count_tokens("red heart") <= base.max_tokens


def test_it_predicts_velocity_and_has_the_targets(base: Any) -> None:
    denoiser = base.load_denoiser(dtype=torch.float32, device=CPU)
    assert denoiser.process.predicts == "v_prediction"
    assert denoiser.process.timesteps == 1000
    assert 0 < denoiser.process.alphas_cumprod[-1] < 0.01
    assert len(denoiser.target_names("attention")) % 8 == 0


def test_it_is_under_the_promised_size(tiny_sd: Path) -> None:
    assert sum(path.stat().st_size for path in tiny_sd.rglob("*") if path.is_file()) < 36_000_000


@pytest.mark.slow
def test_it_encodes_denoises_and_draws_finite_things(base: Any) -> None:
    place = {"dtype": torch.float32, "device": CPU}
    words = base.caption_encoder(**place)
    told, empty = words.encode(["red heart", "pizza"]), words.encode([""])
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = base.image_encoder(**place).encode(pixels)
    assert latents.shape == (1, 4, 16, 16)
    assert torch.isfinite(latents).all()
    denoiser, decoder = base.load_denoiser(**place), base.load_decoder(**place)
    latents = draw(
        denoiser,
        conditioning=told,
        empty_conditioning=empty,
        seeds=[0, 0],
        steps=2,
        guidance=2.0,
        side=16,
    )
    pictures = decoded(decoder, latents, 2)
    assert pictures.shape == (2, 64, 64, 3)
    assert pictures.float().std() > 0
