"""The forward diffusion process: drawing noise and adding it to latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_foundry.objectives.alpha_bar import alpha_bar


def sample_noise(shape: Sequence[int], key: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, a function of ``shape`` and ``key`` alone.

    They are drawn in fp32 on the CPU and cast afterwards, so every device and precision sees the same noise.

    Args:
        shape: Shape of the result.
        key: Seed from :func:`lora_foundry.config.streams.stream_key`.
        dtype: Type of the result.
    """
    generator = torch.Generator(device="cpu").manual_seed(key)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32).to(dtype)


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps`` (Ho et al. 2020, Denoising Diffusion Probabilistic Models, eq. 4).

    Args:
        latents: Clean latents x_0, [N, C, h, w].
        noise: eps, like ``latents``.
        timesteps: One timestep a row, integers [N].
        alphas_cumprod: a_t, [T].

    Returns:
        Noisy latents in the type of ``latents``, [N, C, h, w].
    """
    a = alpha_bar(alphas_cumprod, timesteps, latents)
    return (a.sqrt() * latents + (1 - a).sqrt() * noise).to(latents.dtype)


def noise_offset(noise: Tensor, channel_noise: Tensor, weight: float) -> Tensor:
    """``eps + weight * delta_c``: noise whose mean per channel is drawn as well.

    Lets a model learn very dark and very bright pictures (Guttenberg 2023, "Diffusion with Offset Noise").

    Args:
        noise: eps, [..., C, h, w].
        channel_noise: delta, standard normal, one number a row and channel, [..., C].
        weight: Strength; 0 returns ``noise`` itself.

    Returns:
        Like ``noise``.
    """
    if weight == 0:
        return noise
    return noise + weight * channel_noise[..., None, None].to(noise)
