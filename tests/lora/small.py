"""A module with a layer of each kind, and banks over it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from lora_foundry.lora.bank import AdapterBank
from lora_foundry.lora.inject import AdapterSpec, inject

TARGETS = ("linear", "conv", "point")


class Layers(nn.Module):
    """A linear layer, a strided convolution, a 1x1 and a dilated one, and a second linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 10)
        self.conv = nn.Conv2d(4, 7, 3, stride=2, padding=1)
        self.point = nn.Conv2d(4, 5, 1)
        self.dilated = nn.Conv2d(4, 3, 3, padding=2, dilation=2)
        self.twin = nn.Linear(6, 10)


def spec(rank: int, *targets: str, alpha: float | None = None, seed: int = 1) -> AdapterSpec:
    """An adapter of that rank, of scale 1 where no alpha is given."""
    return AdapterSpec(
        kind="lora",
        rank=rank,
        alpha=rank if alpha is None else alpha,
        dropout=0.0,
        targets=targets or TARGETS,
        use_rslora=False,
        init="kaiming",
        seed=seed,
    )


def make_bank(
    specs: Mapping[str, AdapterSpec],
    *,
    base: torch.dtype = torch.float64,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> AdapterBank:
    """A bank whose weights are all random numbers, always the same."""
    torch.manual_seed(3)
    layers = Layers().to(base).requires_grad_(requires_grad=False)
    for name, one in specs.items():
        inject(layers, name, one)
    bank = AdapterBank(layers, list(specs), dtype=dtype, device=torch.device(device))
    drawn = torch.Generator().manual_seed(4)
    for name in specs:
        for value in bank.unpack(bank.weights[bank.place(name)], name).values():
            value.copy_(torch.randn(value.shape, generator=drawn, dtype=torch.float64))
    return bank
