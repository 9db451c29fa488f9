"""The distance between what was predicted and what was asked for."""

from __future__ import annotations

from torch import Tensor

from lora_foundry.objectives.alpha_bar import wide


def mse_per_sample(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each row: the simple objective (Ho et al. 2020, eq. 14), before any weight.

    Args:
        prediction: [N, C, h, w].
        target: Like ``prediction``; another shape is refused, since broadcasting would hide a mistake.

    Returns:
        [N], fp64 when ``prediction`` is fp64 and fp32 otherwise, computed in that type.

    Raises:
        ValueError: When the shapes differ.
    """
    if prediction.shape != target.shape:
        msg = f"squared error: got shapes {tuple(prediction.shape)} and {tuple(target.shape)}, allowed is equal ones"
        raise ValueError(msg)
    dtype = wide(prediction.dtype)
    difference = prediction.to(dtype) - target.to(dtype)
    return difference.square().flatten(1).mean(1)
