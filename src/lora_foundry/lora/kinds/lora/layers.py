"""PEFT LoRA layers that compute all members of a pack at once.

Without an :class:`~lora_foundry.lora.bank.AdapterBank` they are PEFT's own layers. With one they add, to each row
that the bank's plan names, the low-rank update of that row's member; without a plan they are the base:

    y_n = W x_n + s_m B_m A_m dropout(x_n),   m = member of row n,   s = alpha / rank   (Hu et al. 2021)

with the A and B of all members stacked, so that K members cost two batched products instead of K pairs.
Shapes: N rows, K members, R padded rank, T positions of a row, C and D the layer's inputs and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from peft.tuners.lora.layer import Conv2d as PeftConv2d
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor
from torch.nn import functional

from lora_foundry.lora.kinds.lora.low_rank import LowRank, LowRankConvolution
from lora_foundry.lora.packed import PackedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lora_foundry.lora.forward import Forward
    from lora_foundry.lora.gradients import Sums
    from lora_foundry.lora.rows import RowPlan

_MOST_FILTERS = 64  # of all blocks, as far as was measured on a card


@dataclass(frozen=True, slots=True)
class Stack:
    """One layer's share of the bank.

    Attributes:
        name: The layer's dotted name in the base.
        scales: alpha/rank (or alpha/sqrt(rank)) by place, 1 where an adapter has no such target.
        forward: Returns the forward under way, or None.
    """

    name: str
    scales: tuple[float, ...]
    forward: Callable[[], Forward | None]


class _PackedLora(PackedLayer):
    """What both types of layer have in common."""

    stack: Stack | None = None
    r: dict[str, int]
    scaling: dict[str, float]
    lora_A: Any  # noqa: N815  # PEFT's names
    lora_B: Any  # noqa: N815
    in_features: int
    out_features: int

    def rank(self, adapter: str) -> int:
        """See the protocol."""
        return int(self.r.get(adapter, 0))

    def shapes(self, rank: int) -> dict[str, tuple[int, ...]]:
        """``A [R, C]``, of a convolution ``[R, C, kh, kw]``, and ``B [R, D]``."""
        return {"A": (rank, self.in_features, *self._kernel()), "B": (rank, self.out_features)}

    def _kernel(self) -> tuple[int, ...]:
        return ()

    def enter(self, adapter: str, config: Any) -> None:  # noqa: ANN401  # PEFT's config of a LoRA
        """See the protocol."""
        self.update_layer(adapter, config.r, lora_alpha=config.lora_alpha, config=config)  # type: ignore[attr-defined]

    def draw(self, adapter: str, init: bool | str) -> None:  # noqa: FBT001
        """See the protocol."""
        for holder in (self.lora_A[adapter], self.lora_B[adapter]):
            holder.to("cpu", torch.float32)
        self.reset_lora_parameters(adapter, init)  # type: ignore[attr-defined]

    def values(self, adapter: str) -> dict[str, Tensor]:
        """See the protocol; PEFT keeps B transposed."""
        return {"A": self.lora_A[adapter].weight, "B": self.lora_B[adapter].weight.flatten(1).transpose(0, 1)}

    def link(self, adapter: str, parts: Mapping[str, Tensor]) -> None:
        """See the protocol."""
        held_down, held_up = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        up = parts["B"].transpose(0, 1)
        held_down.data, held_up.data = parts["A"], up if held_up.dim() == 2 else up[..., None, None]

    def attach(self, name: str, adapters: Sequence[str | None], forward: Callable[[], Forward | None]) -> None:
        """See the protocol."""
        for holder in (self.lora_A, self.lora_B):
            # The stacked leaves are trained, not the views; PEFT wants gradients of whichever adapter it calls active.
            holder.requires_grad_(False)  # noqa: FBT003
        # An absent target is zeros, so its scale is of no consequence; 1 multiplies nothing for its sake.
        scales = tuple(1.0 if one is None else float(self.scaling.get(one, 1.0)) for one in adapters)
        self.stack = Stack(name=name, scales=scales, forward=forward)

    def is_zero(self, parts: Mapping[str, Tensor]) -> bool:
        """As it is until the first step: B is."""
        return not bool(parts["B"].any())


class PackedLinear(_PackedLora, PeftLinear):
    """A linear layer with the adapters of all members."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """``x [N, ..., C]`` to ``[N, ..., D]``."""
        stack = self.stack
        if stack is None:
            return super().forward(x, *args, **kwargs)
        now = stack.forward()
        if now is None:
            result: Tensor = self.base_layer(x, *args, **kwargs)
            return result
        _check_rows(x, now.plan, stack.name)
        parts, keep = now.parts[stack.name], _keep(x, now, stack.name)
        down, up = parts["A"], parts["B"]
        sums: Sums | None = now.sums
        if not now.plan.uniform or down.dtype != x.dtype:
            sums = None  # whoever picks rows or casts has gradients to bring back as well
            down, up = (_of_rows(part, x, now.plan) for part in (down, up))
        # With a bias, what torch makes of more than two dimensions is a view, to which nothing is added in place.
        flat = x if x.dim() == 2 or self.get_base_layer().bias is None else x.flatten(0, -2)
        kept = keep if keep is None or flat is x else keep.flatten(0, -2)
        result = self.base_layer(flat, *args, **kwargs)
        result = LowRank.apply(result, flat, down, up, now.strengths(stack.scales), kept, sums, stack.name)
        return result if flat is x else result.view(*x.shape[:-1], -1)


def _of_rows(part: Tensor, x: Tensor, plan: RowPlan) -> Tensor:
    """``[M, ...]`` as x's dtype has it, one for each row ``[N, ...]`` where blocks are of several sizes."""
    cast_part = part.to(x.dtype)
    return cast_part if plan.uniform else cast_part.index_select(0, plan.block_of_row(x.device))


class PackedConv2d(_PackedLora, PeftConv2d):
    """A convolution with the adapters of all members, as one convolution."""

    def _kernel(self) -> tuple[int, ...]:
        return tuple(self.get_base_layer().kernel_size)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """``x [N, C, H, W]`` to ``[N, D, H', W']``."""
        stack = self.stack
        if stack is None:
            return super().forward(x, *args, **kwargs)
        result: Tensor = self.base_layer(x, *args, **kwargs)
        now = stack.forward()
        if now is None:
            return result
        _check_rows(x, now.plan, stack.name)
        parts = now.parts[stack.name]
        down, up = parts["A"].to(x.dtype), parts["B"].to(x.dtype)
        strengths, keep = now.strengths(stack.scales), _keep(x, now, stack.name)
        rows, blocks = x.shape[0], down.shape[0]
        own = now.plan.block_of_row(x.device)
        up = up.expand(rows, -1, -1) if blocks == 1 else up.index_select(0, own)
        base = self.get_base_layer()
        options = base.stride, base.padding, base.dilation
        if is_dense(blocks, down.shape[1], x.device):
            chosen = None if blocks == 1 else own + blocks * torch.arange(rows, device=x.device)
            return cast("Tensor", LowRankConvolution.apply(result, x, down, up, strengths, keep, chosen, options))
        # Rows become groups: [1, N*C, H, W] with N groups of R filters is each row under its own A.
        inputs = (x if keep is None else x * keep).reshape(1, rows * x.shape[1], *x.shape[2:])
        filters = down.index_select(0, own).flatten(0, 1)
        hidden = functional.conv2d(inputs, filters, None, *options, groups=rows).view(rows, down.shape[1], -1)
        if strengths is not None:
            hidden = (hidden * strengths).to(x.dtype)
        return torch.baddbmm(result.flatten(2), up.transpose(1, 2), hidden).view(result.shape)


def is_dense(blocks: int, rank: int, device: torch.device) -> bool:
    """Whether one convolution with the filters of all blocks over all rows is quicker than one in groups.

    On an H100 it takes 0.22 to 0.87 of the time, up to 8 blocks of rank 8 (docs/benchmarks.md). On a CPU it takes as
    long for one block, and 1.3 to 3.9 times as long for 4 to 16.
    """
    return blocks == 1 or (device.type == "cuda" and blocks * rank <= _MOST_FILTERS)


def _keep(x: Tensor, now: Forward, name: str) -> Tensor | None:
    return None if now.masks is None else now.masks.keep(name, x)


def _check_rows(x: Tensor, plan: RowPlan, name: str) -> None:
    if x.shape[0] != plan.n_rows:
        msg = f"layer {name}: got {x.shape[0]} rows, allowed is the plan's {plan.n_rows}"
        raise ValueError(msg)
