"""Counting the bytes of live tensors."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lora_foundry.memory.tally import Tally

KIB = 1024


def test_a_storage_counts_once_from_its_making_to_its_end() -> None:
    with Tally(grain=512) as tally:
        one = torch.zeros(256)
        other = one * 2
        assert tally.live == 2 * KIB
        view = other.view(16, 16).t()
        del other
        assert tally.live == 2 * KIB
        del view
        assert tally.live == KIB
    assert tally.peak == 2 * KIB


def test_sizes_are_rounded_up_to_the_grain() -> None:
    with Tally(grain=512) as tally:
        small = torch.zeros(1)
    assert tally.live == 512
    del small
    assert tally.live == 0


def test_what_autograd_keeps_counts_until_the_backward_pass_is_through() -> None:
    weight = torch.ones(256, requires_grad=True)
    with Tally(grain=512) as tally:
        result = (weight * 2).sin().sum()
        kept = tally.live
        result.backward()
        del result
    assert kept >= KIB  # sin keeps its input
    assert tally.live == KIB  # the gradient


def test_fake_tensors_count_like_real_ones() -> None:
    def step() -> int:
        with Tally(grain=512) as tally:
            weight = torch.ones(64, 64, requires_grad=True)
            torch.nn.functional.silu(torch.ones(8, 64) @ weight).sum().backward()
        return tally.peak

    real = step()
    with FakeTensorMode():
        assert step() == real


def test_a_mark_begins_a_new_peak() -> None:
    with Tally(grain=512) as tally:
        torch.zeros(1024)
        assert tally.peak == 4 * KIB
        assert tally.mark() == 0
        assert tally.peak == 0
