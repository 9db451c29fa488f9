"""Reading a noise schedule at given timesteps, in a precision that does not lose it."""

from __future__ import annotations

import torch
from torch import Tensor


def alpha_bar(alphas_cumprod: Tensor, timesteps: Tensor, like: Tensor) -> Tensor:
    """``alphas_cumprod`` at ``timesteps``, shaped to multiply ``like``.

    Args:
        alphas_cumprod: Share of the signal's variance left at each timestep, [T].
        timesteps: One timestep a row, integers [N].
        like: What the result multiplies, [N, ...]; gives device and number of dimensions.

    Returns:
        [N, 1, ..., 1], at least 32-bit: bf16 would keep three digits of a number that lies next to 1.
    """
    table, places = (numbers.to(like.device, non_blocking=True) for numbers in (alphas_cumprod, timesteps))
    values = table[places]
    return values.to(wide(like.dtype)).reshape(-1, *[1] * (like.ndim - 1))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The precision that sums and schedules are computed in: 64-bit for 64-bit input, else 32-bit."""
    return torch.float64 if dtype == torch.float64 else torch.float32
