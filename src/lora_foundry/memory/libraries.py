"""What a card's libraries take beside a training's own tensors."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lora_foundry.config.surroundings import CUBLAS, CUBLAS_REPEATS

MIB = 2**20
GPU_CONTEXT = 757 * MIB  # CUDA's, bare 619 MiB, with cuBLAS and cuDNN in it: an H100 (bench.device)
CPU_PROGRAM = 768 * MIB  # torch, Lightning and diffusers, imported
# Torch has a handle of cuBLAS for each thread that calls it, each with a workspace that counts as a tensor: the
# training's own, and autograd's, which runs the backward pass (aten/src/ATen/cuda/CublasHandlePool.cpp).
_HANDLES = 2
# What convolutions have for themselves at a step's peak, and blocks that the allocator does not split since less than
# 1 MiB would be left: 12 to 37 MiB beyond all else in packs of one to eight jobs of batch 1 to 4 (SD 1.5, an H100).
_CONVOLUTIONS = 26 * MIB
# Of the activations, held by the allocator between blocks in use: 2.5 to 7.6 % in the same packs, 4.8 % on average.
_KEPT_SHARE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What a process takes beside the tensors of its training.

    Attributes:
        context: Bytes that are no tensors: the program, or CUDA and its libraries.
        workspaces: Bytes of libraries that torch counts as tensors.
        kept_share: What the allocator keeps from others, over the bytes of activations.
    """

    context: int = 0
    workspaces: int = 0
    kept_share: float = 0.0


NOTHING = Beside()
CPU = Beside(context=CPU_PROGRAM)


def on_card() -> Beside:
    """On a card, whose workers have the launcher's own wish for cuBLAS's workspace, or ours."""
    workspace = cublas_workspace(os.environ.get(CUBLAS, CUBLAS_REPEATS[0]))
    return Beside(context=GPU_CONTEXT, workspaces=_HANDLES * workspace + _CONVOLUTIONS, kept_share=_KEPT_SHARE)


def cublas_workspace(asked: str) -> int:
    """Bytes of ``CUBLAS_WORKSPACE_CONFIG``: pairs ``:SIZE:COUNT``, in KiB (cuBLAS's manual); 0 of anything else."""
    words = asked.split(":")[1:]
    if len(words) % 2 or not all(word.isdigit() for word in words):
        return 0
    numbers = [int(word) for word in words]
    return 1024 * sum(size * count for size, count in zip(numbers[::2], numbers[1::2], strict=True))
