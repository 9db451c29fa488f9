"""What a denoiser is asked to predict."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from lora_foundry.objectives.alpha_bar import alpha_bar

PredictionType = Literal["epsilon", "v_prediction"]
PREDICTION_TYPES: tuple[str, ...] = get_args(PredictionType)


def prediction_target(
    prediction_type: str, latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """The tensor that the denoiser's output is compared with.

    Args:
        prediction_type: ``epsilon`` asks for the noise (Ho et al. 2020, eq. 14), ``v_prediction`` for
            :func:`velocity`.
        latents: Clean latents, [N, C, h, w].
        noise: Noise that was added, like ``latents``.
        timesteps: One timestep a row, integers [N].
        alphas_cumprod: Share of the signal's variance left at each timestep, [T].

    Returns:
        [N, C, h, w].

    Raises:
        ValueError: For any other prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return velocity(latents, noise, timesteps, alphas_cumprod)
    msg = f"prediction type: got {prediction_type!r}, allowed is one of {', '.join(PREDICTION_TYPES)}"
    raise ValueError(msg)


def velocity(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """``v = sqrt(a_t) eps - sqrt(1 - a_t) x_0`` (Salimans & Ho 2022, Progressive Distillation, appendix D).

    Shapes as in :func:`prediction_target`.
    """
    a = alpha_bar(alphas_cumprod, timesteps, latents)
    return (a.sqrt() * noise - (1 - a).sqrt() * latents).to(latents.dtype)
