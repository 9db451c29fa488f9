"""The work of a step, counted while it is traced: kernels that run, and floating-point operations of the large ones."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import conv_flop_count, flop_registry, sdpa_backward_flop, sdpa_flop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor
    from torch._ops import OpOverload

aten = torch.ops.aten
_ONLY_MEMORY = {
    aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten._unsafe_view
}  # fmt: skip


class Work:
    """Counts operations as a dispatch mode sees them, forward, backward and recomputed alike.

    Attributes:
        ops: Kernels that compute; views and bare allocations are none.
        flops: Floating-point operations of matrix products, convolutions and attention, by the formulas of
            ``torch.utils.flop_counter``; a multiplication and its addition are two.
    """

    def __init__(self) -> None:
        self.ops = 0
        self.flops = 0

    def see(self, func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:  # noqa: ANN401
        """Count one operation."""
        computes, formula = _kind(func)
        self.ops += computes
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)


@cache
def _kind(func: OpOverload) -> tuple[bool, Callable[..., int] | None]:
    """Whether ``func`` runs a kernel, and its formula."""
    packet = func.overloadpacket
    computes = not func.is_view and func.namespace != "prim" and packet not in _ONLY_MEMORY
    return computes, _FORMULAS.get(packet)


def _conv_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    *rest: Any,  # noqa: ANN401
    out_val: tuple[Tensor | None, ...],
    **_: Any,  # noqa: ANN401
) -> int:
    """Each gradient costs what the forward pass costs.

    The registry's own formula takes a weight's gradient for one of full channels whatever the groups are, and
    adapters' convolutions have as many groups as rows.
    """
    transposed = rest[4]
    forward = conv_flop_count(list(x.shape), list(weight.shape), list(grad.shape), transposed=transposed)
    return forward * sum(made is not None for made in out_val[:2])


_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten.convolution_backward: _conv_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,  # not in the registry, for a GPU's is
    aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
