"""What is predicted: numbers by hand, and diffusers as the oracle."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from lora_foundry.objectives import PREDICTION_TYPES, add_noise, prediction_target, velocity


def test_velocity_by_hand() -> None:
    alphas = torch.tensor([0.64, 0.36], dtype=torch.float64)
    latents = torch.full((2, 1, 1, 1), 2.0, dtype=torch.float64)
    noise = torch.full((2, 1, 1, 1), -1.0, dtype=torch.float64)
    got = velocity(latents, noise, torch.tensor([0, 1]), alphas).flatten()
    # noise times root of alpha, less signal: -0.8 less 0.6 of 2, then -0.6 less 0.8 of 2
    assert got.tolist() == pytest.approx([-2.0, -2.2], abs=1e-15)


def test_velocity_is_diffusers() -> None:
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(3, 4, 5, 6, generator=generator) for _ in range(2))
    timesteps = torch.tensor([0, 500, 999])
    expected = scheduler.get_velocity(latents, noise, timesteps)
    assert torch.allclose(velocity(latents, noise, timesteps, scheduler.alphas_cumprod), expected, atol=1e-6)


def test_the_clean_latents_follow_from_a_velocity() -> None:
    """x_0 = sqrt(a) x_t - sqrt(1 - a) v (Salimans & Ho 2022, appendix D)."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    alphas, timesteps = torch.tensor([0.9, 0.2], dtype=torch.float64), torch.tensor([0, 1])
    noisy = add_noise(latents, noise, timesteps, alphas)
    v = velocity(latents, noise, timesteps, alphas)
    a = alphas.reshape(2, 1, 1, 1)
    assert torch.allclose(a.sqrt() * noisy - (1 - a).sqrt() * v, latents, atol=1e-14)


def test_the_target_is_what_the_prediction_type_says() -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, 4, 3, 3, generator=generator) for _ in range(2))
    alphas, timesteps = torch.tensor([0.9, 0.2]), torch.tensor([0, 1])
    assert prediction_target("epsilon", latents, noise, timesteps, alphas) is noise
    expected = velocity(latents, noise, timesteps, alphas)
    assert torch.equal(prediction_target("v_prediction", latents, noise, timesteps, alphas), expected)
    assert set(PREDICTION_TYPES) == {"epsilon", "v_prediction"}
    with pytest.raises(ValueError, match="got 'sample', allowed is one of epsilon, v_prediction"):
        prediction_target("sample", latents, noise, timesteps, alphas)
