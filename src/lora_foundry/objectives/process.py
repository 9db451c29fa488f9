"""Between a clean picture and pure noise: what a base was trained to undo, behind one protocol.

A base says which process it learned; the step, validation, export and drawing ask that one, and nobody else knows
levels, targets or weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lora_foundry.objectives.noise import add_noise
from lora_foundry.objectives.targets import PredictionType, prediction_target
from lora_foundry.objectives.timesteps import Band, bands, stratified_timesteps, uniform_timestep
from lora_foundry.objectives.weighting import min_snr_weight, snr


class NoiseProcess(Protocol):
    """How noise is added, and what is asked of a denoiser on the way back."""

    @property
    def kind(self) -> str:
        """The word by which samplers say that they walk it back."""

    @property
    def sampler(self) -> str:
        """The sampler that is taken where none is asked for."""

    @property
    def predicts(self) -> PredictionType:
        """What the denoiser's output stands for."""

    def level(self, key: int) -> float:
        """A noise level as it is drawn for training, a function of ``key`` alone; as the denoiser is told it."""

    def strata(self, count: int) -> list[float]:
        """At most ``count`` levels that stand for all, ascending, with no luck in them: what is judged on."""

    def bands(self) -> list[Band]:
        """Ranges of levels that losses are told by, from little to much noise, without gap or overlap."""

    def noisy(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """``clean`` [N, C, h, w] with ``noise`` (like it) at ``levels`` [N], in its type."""

    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """What the denoiser's output is compared with, [N, C, h, w]."""

    def weight(self, levels: Tensor, gamma: float) -> Tensor:
        """How much each level counts where losses are weighted by the signal that is left, cut at ``gamma``; [N]."""


class DiscreteDiffusion:
    """The process of Ho et al. 2020 (Denoising Diffusion Probabilistic Models) over T timesteps.

    Args:
        alphas_cumprod: Share of the signal's variance left at each timestep, [T].
        predicts: The noise, or the velocity (Salimans & Ho 2022).

    Attributes:
        timesteps: T.
    """

    kind = "discrete"
    sampler = "ddim"

    def __init__(self, alphas_cumprod: Tensor, predicts: PredictionType) -> None:
        self.alphas_cumprod = alphas_cumprod
        self.predicts: PredictionType = predicts
        self.timesteps = len(alphas_cumprod)

    def level(self, key: int) -> int:
        """See :func:`lora_foundry.objectives.timesteps.uniform_timestep`."""
        return uniform_timestep(key, self.timesteps)

    def strata(self, count: int) -> list[float]:
        """See :func:`lora_foundry.objectives.timesteps.stratified_timesteps`."""
        return [*stratified_timesteps(min(count, self.timesteps), self.timesteps)]

    def bands(self) -> list[Band]:
        """See :func:`lora_foundry.objectives.timesteps.bands`."""
        return bands(self.timesteps)

    def noisy(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """See :func:`lora_foundry.objectives.noise.add_noise`."""
        return add_noise(clean, noise, levels, self.alphas_cumprod)

    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """See :func:`lora_foundry.objectives.targets.prediction_target`."""
        return prediction_target(self.predicts, clean, noise, levels, self.alphas_cumprod)

    def weight(self, levels: Tensor, gamma: float) -> Tensor:
        """See :func:`lora_foundry.objectives.weighting.min_snr_weight`."""
        return min_snr_weight(snr(self.alphas_cumprod, levels), gamma, self.predicts)


def denoised(
    process: NoiseProcess,
    denoise: Callable[[Tensor, Tensor], Tensor],
    clean: Tensor,
    noise: Tensor,
    levels: Tensor,
    *,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Noise and denoise, in training and in validation alike: what the base predicts, and what it should.

    Args:
        process: What the base undoes.
        denoise: Noisy latents [N, C, h, w] and their levels [N] to the base's prediction.
        clean: Latents, [N, C, h, w].
        noise: Like ``clean``.
        levels: Noise level of each row, [N].
        dtype: What the base computes in.

    Returns:
        Two of [N, C, h, w], in the type of ``clean``.
    """
    noisy = process.noisy(clean, noise, levels).to(dtype)
    prediction = denoise(noisy, levels).to(clean.dtype)
    return prediction, process.target(clean, noise, levels)
