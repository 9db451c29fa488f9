"""Signal-to-noise ratios and Min-SNR weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from lora_foundry.objectives import min_snr_weight, snr


def test_snr_by_hand() -> None:
    alphas = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    assert snr(alphas, torch.tensor([2, 0, 1])).tolist() == pytest.approx([0.25, 9.0, 1.0])


def test_snr_is_diffusers() -> None:
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    timesteps = torch.arange(0, 1000, 37)
    assert torch.allclose(snr(scheduler.alphas_cumprod, timesteps), compute_snr(scheduler, timesteps), rtol=1e-3)


def test_weights_by_hand() -> None:
    ratio = torch.tensor([20.0, 5.0, 1.0, 0.25], dtype=torch.float64)
    # the smaller of ratio and 5, over the ratio
    assert min_snr_weight(ratio, 5.0, "epsilon").tolist() == pytest.approx([0.25, 1.0, 1.0, 1.0])
    # the smaller of ratio and 5, over the ratio and one
    expected = [5 / 21, 5 / 6, 0.5, 0.2]
    assert min_snr_weight(ratio, 5.0, "v_prediction").tolist() == pytest.approx(expected)


def test_both_weigh_the_implied_error_of_the_clean_latents_alike() -> None:
    """Errors of noise and velocity are those of x_0 times snr and snr + 1: both weights give min(snr, gamma)."""
    ratio = torch.logspace(-3, 3, 20, dtype=torch.float64)
    expected = ratio.clamp(max=3.0)
    assert torch.allclose(min_snr_weight(ratio, 3.0, "epsilon") * ratio, expected)
    assert torch.allclose(min_snr_weight(ratio, 3.0, "v_prediction") * (ratio + 1), expected)


def test_pure_noise_has_finite_weights() -> None:
    ratio = snr(torch.tensor([0.0]), torch.tensor([0]))
    assert min_snr_weight(ratio, 5.0, "epsilon").tolist() == [1.0]
    assert min_snr_weight(ratio, 5.0, "v_prediction").tolist() == [0.0]


def test_another_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'sample', allowed is one of epsilon, v_prediction"):
        min_snr_weight(torch.ones(1), 5.0, "sample")
