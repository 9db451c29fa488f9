"""The forward process: its numbers, and noise that is a function of its key."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from diffusers import DDPMScheduler

from lora_foundry.objectives import add_noise, noise_offset, sample_noise
from tests.root import PROJECT_ROOT

SHAPE = (3, 4, 5, 6)


def draws(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator).to(dtype), torch.randn(SHAPE, generator=generator).to(dtype)


def test_add_noise_by_hand() -> None:
    alphas = torch.tensor([1.0, 0.64, 0.36], dtype=torch.float64)
    latents = torch.full((3, 1, 1, 1), 2.0, dtype=torch.float64)
    noise = torch.full((3, 1, 1, 1), -1.0, dtype=torch.float64)
    got = add_noise(latents, noise, torch.tensor([0, 1, 2]), alphas).flatten()
    # signal times root of alpha, less noise: 2, then 0.8 of 2 less 0.6, then 0.6 of 2 less 0.8
    assert got.tolist() == pytest.approx([2.0, 1.0, 0.4], abs=1e-15)


def test_add_noise_is_diffusers() -> None:
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    latents, noise = draws()
    timesteps = torch.tensor([0, 500, 999])
    expected = scheduler.add_noise(latents, noise, timesteps)
    assert torch.allclose(add_noise(latents, noise, timesteps, scheduler.alphas_cumprod), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_add_noise_keeps_the_latents_dtype_and_rounds_once(dtype: torch.dtype) -> None:
    latents, noise = draws(dtype=dtype)
    alphas, timesteps = torch.linspace(0.9999, 0.5, 10), torch.tensor([0, 4, 9])
    got = add_noise(latents, noise, timesteps, alphas)
    exact = add_noise(latents.double(), noise.double(), timesteps, alphas)
    assert got.dtype == dtype
    tolerance = {torch.bfloat16: 2**-8, torch.float32: 1e-6, torch.float64: 0}[dtype]
    assert torch.allclose(got.double(), exact, rtol=tolerance, atol=tolerance / 100)


def test_the_same_key_draws_the_same_noise_and_others_do_not() -> None:
    first = sample_noise(SHAPE, 7)
    assert torch.equal(first, sample_noise(SHAPE, 7))
    assert not torch.equal(first, sample_noise(SHAPE, 8))
    assert torch.equal(sample_noise(SHAPE, 7, torch.float64), first.double())
    assert torch.equal(sample_noise(SHAPE, 7, torch.bfloat16), first.bfloat16())


def test_noise_neither_reads_nor_moves_the_global_stream() -> None:
    before = torch.random.get_rng_state()
    first = sample_noise(SHAPE, 7)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(sample_noise(SHAPE, 7), first)


def test_noise_is_standard_normal() -> None:
    noise = sample_noise((100_000,), 3)
    assert abs(noise.mean()) < 0.015  # five standard errors
    assert abs(noise.std() - 1) < 0.012
    assert abs(noise.pow(4).mean() - 3) < 0.15  # a normal's fourth moment


@pytest.mark.slow
def test_noise_is_the_same_in_another_process_and_with_another_default_dtype() -> None:
    program = (
        "import torch; torch.set_default_dtype(torch.float64); torch.set_num_threads(1);"
        "from lora_foundry.objectives import sample_noise\n"
        "print(sample_noise((40, 5), 2**62 + 1).double().sum().item().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == sample_noise((40, 5), 2**62 + 1).double().sum().item().hex()


def test_noise_offset_adds_one_number_a_row_and_channel() -> None:
    noise, _ = draws()
    channels = torch.arange(12.0).reshape(3, 4)
    got = noise_offset(noise, channels, 0.5)
    assert torch.allclose((got - noise)[1, 2], torch.full((5, 6), 3.0), atol=1e-6)  # 0.5 * 6
    assert torch.allclose((got - noise).mean((2, 3)), 0.5 * channels, atol=1e-5)


def test_noise_offset_takes_single_rows_and_keeps_the_dtype() -> None:
    noise = sample_noise((4, 5, 6), 1, torch.float64)
    got = noise_offset(noise, sample_noise((4,), 2), 0.1)
    assert got.dtype == torch.float64
    assert got.shape == noise.shape


def test_no_offset_leaves_the_noise_untouched() -> None:
    noise, _ = draws()
    assert noise_offset(noise, torch.full((3, 4), torch.nan), 0.0) is noise
