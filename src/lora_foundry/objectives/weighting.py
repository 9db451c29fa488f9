"""How much each noise level counts in the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from lora_foundry.objectives.targets import PREDICTION_TYPES


def snr(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """Signal-to-noise ratio ``a_t / (1 - a_t)`` (Kingma et al. 2021, Variational Diffusion Models, eq. 2).

    Args:
        alphas_cumprod: a_t, [T].
        timesteps: Integers [N].

    Returns:
        [N], in the type of ``alphas_cumprod``, on the device of ``timesteps``.
    """
    a = alphas_cumprod.to(timesteps.device)[timesteps]
    return a / (1 - a)


def min_snr_weight(ratio: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR-gamma weight of the loss (Hang et al. 2023, Efficient Diffusion Training via Min-SNR, section 3.4).

    ``min(snr, gamma) / snr`` when the noise is predicted, ``min(snr, gamma) / (snr + 1)`` when the velocity is:
    both weigh the implied error of x_0 by ``min(snr, gamma)``.

    Args:
        ratio: Signal-to-noise ratio from :func:`snr`, [N]; 0 (a schedule that ends in pure noise) is allowed.
        gamma: Above this ratio a noise level counts no more; 5 in the paper.
        prediction_type: What the denoiser predicts.

    Returns:
        [N], like ``ratio``.

    Raises:
        ValueError: For any other prediction type.
    """
    if prediction_type == "epsilon":
        return torch.clamp(gamma / ratio, max=1.0)  # the same quotient, but 1 instead of 0/0 at a ratio of 0
    if prediction_type == "v_prediction":
        return torch.clamp(ratio, max=gamma) / (ratio + 1)
    msg = f"prediction type: got {prediction_type!r}, allowed is one of {', '.join(PREDICTION_TYPES)}"
    raise ValueError(msg)
