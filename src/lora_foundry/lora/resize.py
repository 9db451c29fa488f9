"""Bringing an update to another rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Resized:
    """An update of another rank.

    Attributes:
        down: ``[r, ...]``.
        up: ``[out, r]``.
        lost: Squared Frobenius norm of what was cut off.
        whole: Squared Frobenius norm of the update.
    """

    down: Tensor
    up: Tensor
    lost: float
    whole: float


def smaller(down: Tensor, up: Tensor, rank: int) -> Resized:
    """The best approximation of ``up @ down`` by rank ``rank`` (Eckart & Young 1936), its scale shared evenly.

    Args:
        down: ``[r, ...]``, fp64.
        up: ``[out, r]``, fp64.
        rank: At most r.
    """
    # The update [out, in] is never made: its singular values are those of the small core between two orthogonal bases.
    left, left_core = torch.linalg.qr(up)
    right, right_core = torch.linalg.qr(down.flatten(1).T)
    core_left, values, core_right = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    kept = min(rank, len(values))
    root = values[:kept].sqrt()
    new_up = (left @ core_left[:, :kept]) * root
    new_down = (root[:, None] * core_right[:kept]) @ right.T
    if kept < rank:  # a layer too small for it
        new_up = torch.nn.functional.pad(new_up, (0, rank - kept))
        new_down = torch.nn.functional.pad(new_down, (0, 0, 0, rank - kept))
    return Resized(
        down=new_down.reshape(rank, *down.shape[1:]),
        up=new_up,
        lost=float(values[kept:].square().sum()),
        whole=float(values.square().sum()),
    )


def larger(down: Tensor, up: Tensor, fresh: Tensor) -> Resized:
    """``up @ down`` exactly, with room to grow: further rows of ``down`` as they begin, further columns of ``up`` zero.

    Args:
        down: ``[r, ...]``.
        up: ``[out, r]``.
        fresh: ``[R, ...]``, R at least r: a freshly initialised down.
    """
    extra = len(fresh) - len(down)
    return Resized(
        down=torch.cat([down, fresh[len(down) :].to(down)]),
        up=torch.nn.functional.pad(up, (0, extra)),
        lost=0.0,
        whole=0.0,
    )
