"""Shapes and dtypes of every objective, for any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.objectives import add_noise, min_snr_weight, mse_per_sample, prediction_target, snr

sizes = st.tuples(*[st.integers(1, 4)] * 4)


@pytest.mark.slow
@given(sizes, st.sampled_from([torch.float32, torch.float64]), st.sampled_from(["epsilon", "v_prediction"]))
def test_a_loss_is_one_weighted_number_a_row(size: tuple[int, ...], dtype: torch.dtype, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(size, generator=generator, dtype=dtype) for _ in range(2))
    alphas = torch.linspace(0.999, 0.01, 10)
    timesteps = torch.arange(size[0])
    noisy = add_noise(latents, noise, timesteps, alphas)
    target = prediction_target(kind, latents, noise, timesteps, alphas)
    assert noisy.shape == target.shape == size
    assert noisy.dtype == target.dtype == dtype
    weight = min_snr_weight(snr(alphas, timesteps), 5.0, kind)
    loss = mse_per_sample(noisy, target) * weight
    assert loss.shape == weight.shape == (size[0],)
    assert torch.isfinite(loss).all()


@pytest.mark.slow
@given(sizes)
def test_a_row_is_what_it_would_be_alone(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2))
    alphas, timesteps = torch.linspace(0.999, 0.01, 10), torch.arange(size[0])
    last = slice(size[0] - 1, size[0])
    whole = add_noise(latents, noise, timesteps, alphas)[last]
    assert torch.equal(whole, add_noise(latents[last], noise[last], timesteps[last], alphas))
