"""The denoiser: frozen, faithful to the base's schedule, and the same with gradient checkpointing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from lora_foundry.models import open_base
from tests.models.conftest import CPU, SCHEDULER, model_config


class Scaled(nn.Module):
    """A layer with something to train beside it, as an adapter has."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.weight = nn.Parameter(torch.full((base.out_features,), 0.9, dtype=base.weight.dtype))
        self.calls = 0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.base(rows) * self.weight


def trained_gradients(folder: Path, inputs: Any, *, checkpointing: bool, train: bool) -> tuple[list[torch.Tensor], int]:
    """Gradients of the trainable layers, and how often they were computed."""
    base = open_base(model_config(folder))
    denoiser = base.load_denoiser(dtype=torch.float64, device=CPU, gradient_checkpointing=checkpointing)
    denoiser.module.train(train)
    layers = []
    for name in denoiser.target_names(["to_q", "proj"]):
        parent = denoiser.module.get_submodule(name.rsplit(".", 1)[0])
        layer = Scaled(denoiser.module.get_submodule(name))
        setattr(parent, name.rsplit(".", 1)[1], layer)
        layers.append(layer)
    denoiser.denoise(*inputs).square().mean().backward()
    return [layer.weight.grad for layer in layers], sum(layer.calls for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_checkpointing_recomputes_and_gives_the_same_gradients(folder: Path, inputs: Callable, train: bool) -> None:
    plain, calls = trained_gradients(folder, inputs(), checkpointing=False, train=train)
    recomputed, twice = trained_gradients(folder, inputs(), checkpointing=True, train=train)
    assert twice == 2 * calls
    for expected, got in zip(plain, recomputed, strict=True):
        assert expected.abs().max() > 0
        assert torch.equal(got, expected)


def test_checkpointing_can_be_switched_later(folder: Path) -> None:
    denoiser = open_base(model_config(folder)).load_denoiser(dtype=torch.float32, device=CPU)
    assert not denoiser.module.is_gradient_checkpointing
    denoiser.set_gradient_checkpointing(enabled=True)
    assert denoiser.module.is_gradient_checkpointing
    denoiser.set_gradient_checkpointing(enabled=False)
    assert not denoiser.module.is_gradient_checkpointing


def test_the_base_is_frozen_and_in_eval_mode(denoiser: Any) -> None:
    assert not any(parameter.requires_grad for parameter in denoiser.module.parameters())
    assert not any(module.training for module in denoiser.module.modules())


def test_the_schedule_is_diffusers_whatever_sampler_the_config_names(denoiser: Any) -> None:
    expected = DDPMScheduler.from_config(SCHEDULER).alphas_cumprod
    assert torch.equal(denoiser.process.alphas_cumprod, expected)
    assert denoiser.process.alphas_cumprod.dtype == torch.float32
    assert denoiser.process.timesteps == 1000
    assert denoiser.latent_channels == 4


def test_a_zero_terminal_snr_schedule_is_kept(own_folder: Path) -> None:
    path = own_folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(SCHEDULER | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}))
    denoiser = open_base(model_config(own_folder)).load_denoiser(dtype=torch.float32, device=CPU)
    assert denoiser.process.alphas_cumprod[-1] < 1e-6  # the last timestep is pure noise (Lin et al. 2024)
    assert denoiser.process.predicts == "v_prediction"


@pytest.mark.parametrize(("wanted", "says"), [("auto", "epsilon"), ("v_prediction", "v_prediction")])
def test_the_prediction_type_is_the_schedulers_unless_given(folder: Path, wanted: str, says: str) -> None:
    model = model_config(folder, prediction_type=wanted)
    denoiser = open_base(model).load_denoiser(dtype=torch.float32, device=CPU)
    assert denoiser.process.predicts == says
    assert denoiser.scheduler_config["prediction_type"] == says


def test_rows_do_not_see_each_other(denoiser: Any, inputs: Callable) -> None:
    noisy, timesteps, told = inputs(4)
    with torch.no_grad():
        together = denoiser.denoise(noisy, timesteps, told)
        one = {"encoder_hidden_states": told["encoder_hidden_states"][2:3]}
        alone = denoiser.denoise(noisy[2:3], timesteps[2:3], one)
    assert torch.allclose(together[2:3], alone, rtol=0, atol=1e-12)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_the_timestep_and_the_caption_matter(denoiser: Any, inputs: Callable) -> None:
    noisy, timesteps, told = inputs()
    with torch.no_grad():
        first = denoiser.denoise(noisy, timesteps, told)
        other_caption = denoiser.denoise(noisy, timesteps, {"encoder_hidden_states": told["encoder_hidden_states"] + 1})
        other_time = denoiser.denoise(noisy, (timesteps + 300) % 1000, told)
    assert not torch.allclose(first, other_caption, atol=1e-6)
    assert not torch.allclose(first, other_time, atol=1e-6)
