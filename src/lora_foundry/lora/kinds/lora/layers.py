"""PEFT LoRA layers that compute all members of a pack at once.

Without an :class:`~lora_foundry.lora.bank.AdapterBank` they are PEFT's own layers. With one they add, to each row
that the bank's plan names, the low-rank update of that row's member; without a plan they are the base:

    y_n = W x_n + s_m B_m A_m dropout(x_n),   m = member of row n,   s = alpha / rank   (Hu et al. 2021)

with the A and B of all members stacked, so that K members cost two batched products instead of K pairs.
Shapes: N rows, K members, R padded rank, T positions of a row, C and D the layer's inputs and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora.layer import Conv2d as PeftConv2d
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor
from torch.nn import functional

from lora_foundry.lora.packed import PackedLayer
from lora_foundry.lora.rows import RowPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lora_foundry.lora.dropout import Masks


@dataclass(slots=True)
class Stack:
    """One layer's share of the bank.

    Attributes:
        name: The layer's dotted name in the base; part of the dropout's key.
        down: ``A [K, R, C]`` or, for convolutions, ``[K, R, C, kh, kw]``.
        up: ``B [K, R, D]``.
        scaling: ``[K]`` alpha/rank (or alpha/sqrt(rank)) of each member, 0 where it has no such target.
        unit: Whether all scales are 1, so that the product is left out.
        plan: Returns the plan of the forward under way, or None.
        masks: Returns what that forward drops, or None.
    """

    name: str
    down: Tensor
    up: Tensor
    scaling: Tensor
    unit: bool
    plan: Callable[[], RowPlan | None]
    masks: Callable[[], Masks | None]

    def matrices(self, plan: RowPlan, dtype: torch.dtype, *, per_row: bool) -> tuple[Tensor, Tensor]:
        """A and scaled B in ``dtype``, one pair a block, or one a row: ``[M, R, C...]`` and ``[M, R, D]``."""
        down, up = self.down, self.up
        if not (self.unit and plan.scale == 1.0):
            up = up * (self.scaling * plan.scale)[:, None, None]
        down, up = down.to(dtype), up.to(dtype)
        if per_row:
            index = plan.row_index(down.device)
            return down.index_select(0, index), up.index_select(0, index)
        if plan.covers(down.shape[0]):
            return down, up
        index = plan.block_index(down.device)
        return down.index_select(0, index), up.index_select(0, index)

    def drop(self, x: Tensor) -> Tensor:
        """``x [N, ...]`` with each row's own inputs dropped; what is kept is scaled behind A, where it is smaller."""
        masks = self.masks()
        return x if masks is None else x * masks.keep(self.name, x)

    def strengthen(self, hidden: Tensor, rows: int) -> Tensor:
        """``hidden [M, ...]``, what A made of ``rows`` rows one behind the other, scaled by each row's 1/(1-p)."""
        masks = self.masks()
        if masks is None:
            return hidden
        by_row = hidden.reshape(rows, -1)
        return (by_row * masks.strengths[:, None]).to(hidden.dtype).view(hidden.shape)


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

    def link(self, adapter: str, parts: Mapping[str, Tensor]) -> None:
        """See the protocol; PEFT keeps B transposed."""
        down, up = parts["A"], parts["B"]
        held_down, held_up = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        target_up = up.transpose(0, 1) if held_up.dim() == 2 else up.transpose(0, 1)[..., None, None]
        with torch.no_grad():
            down.copy_(held_down.to(down.dtype))
            target_up.copy_(held_up.to(up.dtype))
        for held in (held_down, held_up):
            held.requires_grad_(False)  # noqa: FBT003  # the stacked leaves are trained, not the views
        held_down.data, held_up.data = down, target_up

    def unlink(self, adapter: str) -> None:
        """See the protocol."""
        for holder in (self.lora_A[adapter], self.lora_B[adapter]):
            holder.weight.data = holder.weight.data.clone(memory_format=torch.contiguous_format)

    def attach(
        self,
        name: str,
        parts: Mapping[str, Tensor],
        adapters: Sequence[str],
        plan: Callable[[], RowPlan | None],
        masks: Callable[[], Masks | None],
    ) -> None:
        """See the protocol."""
        down, up = parts["A"], parts["B"]
        # An absent target is zeros, so its scale is of no consequence; 1 keeps `unit` true for the rest.
        scaling = [float(self.scaling.get(adapter, 1.0)) for adapter in adapters]
        self.stack = Stack(
            name=name,
            down=down,
            up=up,
            scaling=torch.tensor(scaling, dtype=down.dtype, device=down.device),
            unit=all(scale == 1.0 for scale in scaling),
            plan=plan,
            masks=masks,
        )

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
        result = self.base_layer(x, *args, **kwargs)
        plan = stack.plan()
        if plan is None:
            return result
        _check_rows(x, plan, stack.name)
        blocks = len(plan.places) if plan.uniform else x.shape[0]
        down, up = stack.matrices(plan, x.dtype, per_row=not plan.uniform)
        inputs = stack.drop(x).reshape(blocks, -1, x.shape[-1])
        hidden = stack.strengthen(torch.bmm(inputs, down.transpose(1, 2)), x.shape[0])
        return torch.baddbmm(result.reshape(blocks, -1, result.shape[-1]), hidden, up).view(result.shape)


class PackedConv2d(_PackedLora, PeftConv2d):
    """A convolution with the adapters of all members, as one convolution in groups."""

    def _kernel(self) -> tuple[int, ...]:
        return tuple(self.get_base_layer().kernel_size)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """``x [N, C, H, W]`` to ``[N, D, H', W']``."""
        stack = self.stack
        if stack is None:
            return super().forward(x, *args, **kwargs)
        result = self.base_layer(x, *args, **kwargs)
        plan = stack.plan()
        if plan is None:
            return result
        _check_rows(x, plan, stack.name)
        down, up = stack.matrices(plan, x.dtype, per_row=True)
        base = self.get_base_layer()
        rows = x.shape[0]
        # Rows become groups: [1, N*C, H, W] with N groups of R filters is each row under its own A.
        inputs = stack.drop(x).reshape(1, rows * x.shape[1], *x.shape[2:])
        hidden = functional.conv2d(
            inputs, down.flatten(0, 1), None, base.stride, base.padding, base.dilation, groups=rows
        ).view(rows, down.shape[1], -1)
        hidden = stack.strengthen(hidden, rows)
        return torch.baddbmm(result.flatten(2), up.transpose(1, 2), hidden).view(result.shape)


def _check_rows(x: Tensor, plan: RowPlan, name: str) -> None:
    if x.shape[0] != plan.n_rows:
        msg = f"layer {name}: got {x.shape[0]} rows, allowed is the plan's {plan.n_rows}"
        raise ValueError(msg)
