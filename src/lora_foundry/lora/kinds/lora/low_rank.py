"""The packed layers' arithmetic: ``y = W x + s B A drop(x)`` of all blocks at once, forward and backward.

Written out, since autograd alone would keep the dropped inputs beside the inputs, and make each gradient aside and add
it by a kernel of its own. Shapes: N rows in M blocks, R padded rank, T positions of a row, C inputs
and D outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from lora_foundry.lora.gradients import Sums


class LowRank(torch.autograd.Function):
    """Of a linear layer."""

    @staticmethod
    def forward(  # type: ignore[override]  # noqa: PLR0913, PLR0917  # torch passes all by place
        ctx: Any,  # noqa: ANN401
        result: Tensor,
        x: Tensor,
        down: Tensor,
        up: Tensor,
        strengths: Tensor | None,
        keep: Tensor | None,
        sums: Sums | None,
        name: str,
    ) -> Tensor:
        """Add the update to ``result [N, ..., D]``.

        Args:
            ctx: Torch's.
            result: What the base's layer made.
            x: ``[N, ..., C]``.
            down: ``A [M, R, C]``.
            up: ``B [M, R, D]``.
            strengths: ``[N, 1, 1]``, or None for ones.
            keep: Bool, of x's shape, or None where nothing is dropped.
            sums: What gradients of A and B are added to; None leaves them to autograd.
            name: The layer's.
        """
        count = down.size(0)
        hidden = _scaled(torch.bmm(_blocks(_dropped(x, keep), count), _turned(down)), strengths)
        ctx.save_for_backward(x, down, up, hidden, strengths, keep)
        ctx.sums, ctx.name = sums, name
        return _added(ctx, result, _blocks(result, count), hidden, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # type: ignore[override]
        """Of ``result``, x, and A and B where they are not added to the sums."""
        x, down, up, hidden, strengths, keep = ctx.saved_tensors
        count = down.size(0)
        grad = _blocks(grads[0], count)
        of_hidden = _scaled(torch.bmm(grad, _turned(up)), strengths)
        products = {
            "A": (of_hidden.transpose(1, 2), _blocks(_dropped(x, keep), count)),
            "B": (hidden.transpose(1, 2), grad),
        }
        of_x = None
        if ctx.needs_input_grad[1]:
            of_x = torch.bmm(of_hidden, down).view(x.shape)
            if keep is not None:
                of_x.mul_(keep)
        if ctx.sums is None:
            of_down, of_up = (torch.bmm(left, right) for left, right in products.values())
            return grads[0], of_x, of_down, of_up, None, None, None, None
        ctx.sums.add_products(ctx.name, products)
        return grads[0], of_x, None, None, None, None, None, None


class LowRankConvolution(torch.autograd.Function):
    """Of a convolution: one with the filters of all blocks over all rows, of which each row keeps its own block's."""

    @staticmethod
    def forward(  # type: ignore[override]  # noqa: PLR0913, PLR0917  # torch passes all by place
        ctx: Any,  # noqa: ANN401
        result: Tensor,
        x: Tensor,
        down: Tensor,
        up: Tensor,
        strengths: Tensor | None,
        keep: Tensor | None,
        own: Tensor | None,
        options: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    ) -> Tensor:
        """Add the update to ``result [N, D, H', W']``.

        Args:
            ctx: Torch's.
            result: What the base's layer made.
            x: ``[N, C, H, W]``.
            down: ``A [M, R, C, kh, kw]``.
            up: ``B [N, R, D]``, one a row.
            strengths: ``[N, 1, 1]``, or None for ones.
            keep: Bool, of x's shape, or None where nothing is dropped.
            own: ``[N]``, the place of each row's own block in ``[N M]``; None where M is 1.
            options: Stride, padding and dilation.
        """
        every = functional.conv2d(_dropped(x, keep), down.flatten(0, 1), None, *options)
        hidden = every.reshape(-1, down.shape[1], every[0, 0].numel())
        hidden = _scaled(hidden if own is None else hidden.index_select(0, own), strengths)
        ctx.save_for_backward(x, down, up, hidden, strengths, keep, own)
        ctx.options, ctx.every = options, every.shape
        return _added(ctx, result, result.flatten(2), up.transpose(1, 2), hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # type: ignore[override]
        """Of ``result``, x, A and B."""
        x, down, up, hidden, strengths, keep, own = ctx.saved_tensors
        grad = grads[0].flatten(2)
        of_up = torch.bmm(hidden, grad.transpose(1, 2))
        of_hidden = _scaled(torch.bmm(up, grad), strengths)
        inputs, filters = _dropped(x, keep), down.flatten(0, 1)
        if own is not None:
            of_hidden = of_hidden.new_zeros(len(x) * len(down), *of_hidden.shape[1:]).index_copy_(0, own, of_hidden)
            # A mate's zeros times what is not finite would be no zeros; whose own it is, is told by the loss.
            inputs, filters = inputs.nan_to_num(), filters.nan_to_num()
        wanted = [ctx.needs_input_grad[1], True, False]
        of_x, of_filters, _ = torch.ops.aten.convolution_backward(
            of_hidden.reshape(ctx.every),
            inputs,
            filters,
            None,
            *ctx.options,
            False,  # noqa: FBT003
            (0, 0),
            1,
            wanted,
        )
        if of_x is not None and keep is not None:
            of_x.mul_(keep)
        return grads[0], of_x, of_filters.view(down.shape), of_up, None, None, None, None


def _added(ctx: Any, result: Tensor, blocks: Tensor, left: Tensor, right: Tensor) -> Tensor:  # noqa: ANN401
    """``result + left right``, in place where ``result`` is no view: nobody keeps what a base's layer made."""
    if result._is_view() or not result.is_contiguous():
        return torch.baddbmm(blocks, left, right).view(result.shape)
    ctx.mark_dirty(result)
    blocks.baddbmm_(left, right)
    return result


def _dropped(x: Tensor, keep: Tensor | None) -> Tensor:
    return x if keep is None else x * keep


def _blocks(rows: Tensor, count: int) -> Tensor:
    """``[N, ..., C]`` as ``[M, N/M T, C]``, M being ``count``."""
    return rows.reshape(count, -1, rows.size(-1))


def _turned(matrices: Tensor) -> Tensor:
    """``[M, C, R]`` of ``[M, R, C]``."""
    turned = matrices.transpose(1, 2)
    # MKL's batched product takes two to four times as long with few columns that lie apart.
    return turned.contiguous() if turned.is_cpu and turned.size(0) > 1 else turned


def _scaled(hidden: Tensor, strengths: Tensor | None) -> Tensor:
    """``hidden``, in place; the products are rounded once, whatever its dtype."""
    if strengths is not None:
        hidden.view(strengths.size(0), -1, hidden.size(-1)).mul_(strengths)
    return hidden
