"""Which kernels compute attention on a device: whether the scores of all pairs are kept for the backward pass.

Torch takes the first of cuDNN's, flash and memory-efficient attention that can, and else multiplies the matrices and
keeps ``[rows, heads, queries, keys]`` scores, in 32 bits beside a 16-bit base. By torch 2.13's
``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp`` flash and cuDNN's can from compute capability 8.0 on, in fp16
and bf16 (``check_dtypes_low_precision``), and the memory-efficient one from 5.0 on in fp16 and fp32, from 8.0 on in
bf16 too (``can_use_mem_efficient_attention``). None has 64 bits. A CPU's flash attention takes all four
(``sdp_utils_cpp.cpp``, ``use_flash_attention_cpp``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lora_foundry.config.schema import Precision

Attention = Literal["fused", "scores"]

_FUSED_FROM: dict[str, tuple[int, int] | None] = {
    "16-mixed": (5, 0),
    "32-true": (5, 0),
    "bf16-mixed": (8, 0),
    "bf16-true": (8, 0),
    "64-true": None,
    "auto": (5, 0),  # becomes what the card computes by itself
}
"""The least compute capability that has a fused kernel for a base's dtype; null for none."""


def attention_of(precision: Precision, *, card: bool, capability: tuple[int, ...] | None = None) -> Attention:
    """What torch will take.

    Args:
        precision: ``trainer.precision``, which is the base's dtype.
        card: Whether it trains on a card, and not on the CPU.
        capability: Compute capability of one of NVIDIA's; null where it is not known, or the card is another's, whose
            torch has fused kernels for the same dtypes.
    """
    if not card:
        return "fused"
    least = _FUSED_FROM[precision]
    return "fused" if least is not None and (capability is None or capability >= least) else "scores"
