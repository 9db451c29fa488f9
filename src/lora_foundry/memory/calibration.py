"""A CPU's rate: a few blocks like a base's, run so small that only their number counts, and large enough to compute."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora_foundry.lora.bank import AdapterBank
from lora_foundry.lora.inject import AdapterSpec, inject
from lora_foundry.lora.rows import RowPlan
from lora_foundry.memory.pace import Rate
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.work import Work
from lora_foundry.training.precision import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from lora_foundry.config.schema import Precision

_HEADS = 4
_SMALL = {"width": 160, "side": 4, "rows": 1, "blocks": 8}
_LARGE = {"width": 160, "side": 16, "rows": 4, "blocks": 1}
_ROUNDS = 5
_NUMBERS = 2**24  # of the tensors that are copied: beyond any cache


class _Block(nn.Module):
    """A convolution and an attention over its positions, each behind its norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.convolution = nn.GroupNorm(_HEADS, width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.LayerNorm(width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """``x [N, C, S, S]`` to the same."""
        x = x + self.convolution(functional.silu(self.norm(x)))
        y = self.norm2(x.flatten(2).transpose(1, 2))
        heads = [layer(y).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for layer in self.layers[:3]]
        mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return x + self.layers[3](mixed).transpose(1, 2).unflatten(-1, x.shape[2:])


def measure_cpu(precision: Precision, threads: int | None = None) -> Rate:
    """What this process's CPU does in ``precision`` on ``threads`` threads; null is what torch has now."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.random.fork_rng(devices=[]):
            small_s, small_ops, small_flops = _timed(precision, **_SMALL)
            large_s, large_ops, large_flops = _timed(precision, **_LARGE)
            bytes_per_s = _bytes_per_s()
    finally:
        torch.set_num_threads(before)
    # Two blocks, two unknowns; the small one's few FLOPs are taken at the large one's rate.
    flops_per_s = large_flops / max(large_s - large_ops * small_s / small_ops, large_s / 2)
    per_op_s = max(small_s - small_flops / flops_per_s, small_s / 2) / small_ops
    return Rate(per_op_s=per_op_s, flops_per_s=flops_per_s, bytes_per_s=bytes_per_s)


def _timed(precision: Precision, *, width: int, side: int, rows: int, blocks: int) -> tuple[float, int, int]:
    """Seconds, kernels and FLOPs of a forward and a backward pass."""
    dtypes = DTYPES[precision]
    net = nn.Sequential(*(_Block(width) for _ in range(blocks))).to(dtypes.base).requires_grad_(requires_grad=False)
    targets = tuple(name for name, layer in net.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    spec = AdapterSpec(
        kind="lora", rank=8, alpha=8, dropout=0, targets=targets, use_rslora=False, init="kaiming", seed=0
    )
    inject(net, "measured", spec)
    bank = AdapterBank(net, ["measured"], dtype=dtypes.adapter, device=torch.device("cpu"))
    plan = RowPlan(places=(0,), counts=(rows,))
    x = torch.randn(rows, width, side, side, dtype=dtypes.base)

    def step() -> None:
        with bank.rows(plan):
            net(x).float().square().mean().backward()

    work = Work()
    with Tally(grain=1, work=work):
        step()
    return _quickest(step), work.ops, work.flops


def _bytes_per_s() -> float:
    numbers, other = torch.zeros(_NUMBERS), torch.zeros(_NUMBERS)
    return 3 * numbers.nbytes / _quickest(lambda: numbers.add_(other))  # two are read, one is written


def _quickest(call: Callable[[], object]) -> float:
    """A busy moment only ever makes a call slower."""
    taken = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)
