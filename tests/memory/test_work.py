"""Counting kernels and floating-point operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lora_foundry.memory.tally import Tally
from lora_foundry.memory.work import Work


def _counted(call: Callable[[], object]) -> Work:
    work = Work()
    with Tally(grain=1, work=work):
        call()
    return work


def test_views_and_bare_allocations_are_no_kernels() -> None:
    x = torch.ones(4, 6)
    assert _counted(lambda: x.t().reshape(24).view(2, 12)[0].detach().expand(3, 12)).ops == 1  # the copy of reshape
    assert _counted(lambda: torch.empty(3).new_empty(5)).ops == 0
    assert _counted(lambda: x.add(1).mul_(2).sum()).ops == 3


def test_a_product_and_its_gradients() -> None:
    x, weight = torch.ones(3, 5, requires_grad=True), torch.ones(7, 5, requires_grad=True)
    forward = 2 * 3 * 5 * 7
    assert _counted(lambda: functional.linear(x, weight)).flops == forward
    assert _counted(lambda: functional.linear(x, weight).sum().backward()).flops == 3 * forward
    assert _counted(lambda: functional.linear(x, weight.detach()).sum().backward()).flops == 2 * forward


@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_in_groups_and_its_gradients(groups: int) -> None:
    x = torch.ones(2, 8, 6, 6, requires_grad=True)
    weight = torch.ones(12, 8 // groups, 3, 3, requires_grad=True)
    forward = 2 * (2 * 12 * 6 * 6) * (8 // groups * 3 * 3)  # a multiplication and an addition a weight and output
    assert _counted(lambda: functional.conv2d(x, weight, padding=1, groups=groups)).flops == forward
    step = _counted(lambda: functional.conv2d(x, weight, padding=1, groups=groups).sum().backward())
    assert step.flops == 3 * forward


def test_attention_and_its_gradients() -> None:
    rows, heads, length, width = 2, 3, 10, 4
    states = [torch.ones(rows, heads, length, width, requires_grad=True) for _ in range(3)]
    forward = 2 * 2 * rows * heads * length * length * width  # scores, and what they weigh
    assert _counted(lambda: functional.scaled_dot_product_attention(*states)).flops == forward
    step = _counted(lambda: functional.scaled_dot_product_attention(*states).sum().backward())
    assert step.flops == 3.5 * forward  # two products forward, five backward (Dao et al. 2022)


def test_what_checkpointing_computes_again_is_counted() -> None:
    x, weight = torch.ones(3, 5, requires_grad=True), torch.ones(5, 5)

    def block(x: Tensor) -> Tensor:
        return functional.silu(functional.linear(functional.silu(functional.linear(x, weight)), weight))

    plain = _counted(lambda: block(x).sum().backward())
    again = _counted(lambda: checkpoint(block, x, use_reentrant=False).sum().backward())  # type: ignore[union-attr]
    one = 2 * 3 * 5 * 5
    assert (plain.flops, again.flops) == (4 * one, 6 * one)
    assert again.ops == plain.ops + 4


def test_fake_tensors_count_like_real_ones() -> None:
    def step() -> Work:
        x = torch.ones(2, 8, 6, 6, requires_grad=True)
        return _counted(lambda: functional.silu(functional.conv2d(x, torch.ones(4, 8, 3, 3))).sum().backward())

    real = step()
    with FakeTensorMode():
        fake = step()
    assert (fake.ops, fake.flops) == (real.ops, real.flops)
