"""Results lie where the tensors are that they go with, in the precision that is promised."""

from __future__ import annotations

import torch

from lora_foundry.objectives import add_noise, bands, noise_offset, snr, velocity
from lora_foundry.objectives.alpha_bar import alpha_bar

META = torch.device("meta")
ALPHAS = torch.linspace(0.99, 0.1, 10)


def test_schedules_follow_the_latents_device() -> None:
    latents, timesteps = torch.ones(2, 4, 3, 3, device=META), torch.tensor([1, 2])
    assert alpha_bar(ALPHAS, timesteps, latents).device == META
    assert add_noise(latents, latents, timesteps, ALPHAS).device == META
    assert snr(ALPHAS, timesteps.to(META)).device == META


def test_a_schedule_is_read_in_the_precision_that_sums_have() -> None:
    timesteps = torch.tensor([1, 2])
    for like, wide in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)):
        for alphas in (ALPHAS, ALPHAS.double()):
            assert alpha_bar(alphas, timesteps, torch.ones(2, 1, dtype=like)).dtype == wide


def test_targets_and_noise_keep_the_dtype_they_were_given() -> None:
    latents, timesteps = torch.ones(2, 4, 3, 3, dtype=torch.bfloat16), torch.tensor([1, 2])
    assert velocity(latents, latents, timesteps, ALPHAS).dtype == torch.bfloat16
    assert noise_offset(latents, torch.ones(2, 4), 0.3).dtype == torch.bfloat16


def test_as_many_bands_as_timesteps_hold_one_each() -> None:
    assert [(band.low, band.high) for band in bands(4, 4)] == [(0, 1), (1, 2), (2, 3), (3, 4)]
