"""The mean of a member's last adapters (``trainer.average``), at its own rank.

Izmailov et al. 2018 (stochastic weight averaging) average weights along a trajectory. A LoRA's weight is the product
``s B A``, and the mean of products is not the product of means, so products are averaged: side by side, k adapters of
rank r are one of rank k r, whose best approximation of rank r is kept (Eckart & Young 1936).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from lora_foundry.config.components import split_name
from lora_foundry.lora.bank import by_layer
from lora_foundry.lora.formats.adapter import LoraWeights, canonical_text_name
from lora_foundry.lora.formats.read import read_adapter
from lora_foundry.lora.kinds import kind_choice
from lora_foundry.training.export import live_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from lora_foundry.lora.formats.adapter import Adapter
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack


def steps_averaged(member: Member) -> list[int]:
    """Steps of the exports that are averaged with the adapter as it is: the last ones before it."""
    average, every = member.config.trainer.average, member.config.trainer.save_every
    if average is None or every is None:
        return []
    return list(range(every, member.count.step, every))[1 - average :]


def mean_of(pack: Pack, member: Member, files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the member's adapter as it is and those in ``files``, as the bank has them.

    Raises:
        AdapterError: When a file cannot be read.
        OSError: When it is not there.
    """
    return weights_of(pack, member, [live_adapter(pack, member), *(read_adapter(file) for file in files)])


def weights_of(pack: Pack, member: Member, adapters: Sequence[Adapter]) -> dict[str, Tensor]:
    """The mean of ``adapters`` as the bank has the member's; of one that adapter."""
    kind, networks = kind_choice(member.config.lora.kind), list(pack.base.components)
    mean: dict[str, Tensor] = {}
    for name, fresh in by_layer(pack.bank.state(member.name)).items():
        component, inner = split_name(networks, name)
        of_each = [_of(adapter, component if component != networks[0] else "unet", inner) for adapter in adapters]
        made = kind.begun(side_by_side(of_each), fresh, member.config.lora)
        mean |= {f"{name}.{part}": value for part, value in made.parts.items()}
    return mean


def side_by_side(updates: Sequence[LoraWeights]) -> LoraWeights:
    """The mean of k updates of rank r, exactly, at rank k r and scale 1."""
    down = torch.cat([one.down.double() for one in updates])
    up = torch.cat([one.up.double() * (one.scale / len(updates)) for one in updates], dim=1)
    return LoraWeights(down=down, up=up, alpha=float(len(down)))


@contextmanager
def in_place_of(pack: Pack, member: Member, tensors: dict[str, Tensor]) -> Iterator[None]:
    """Let the member have ``tensors`` for its weights meanwhile."""
    row = pack.bank.weights[pack.bank.place(member.name)]
    kept = row.clone()
    try:
        pack.bank.fill(row, tensors, member.name)
        yield
    finally:
        row.copy_(kept)


def _of(adapter: Adapter, component: str, inner: str) -> LoraWeights:
    found: LoraWeights = getattr(adapter, component)[inner if component == "unet" else canonical_text_name(inner)]
    return found
