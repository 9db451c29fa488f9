"""Forwards of fixed rows: members side by side on the same rows, and fewer at a time where memory runs out.

Shape legend: V fixed rows, N rows of a forward, K members, M numbers of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_foundry.lora.rows import RowPlan
from lora_foundry.tasks.protocol import Judged, part_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from lora_foundry.tasks.protocol import FixedRows
    from lora_foundry.training.member import Member
    from lora_foundry.training.pack import Pack

Taken = Callable[[Judged, slice], Tensor]
"""``[M, N]``: the numbers of each row, of what the base answered to some of the fixed rows, once for each member."""


def measure(pack: Pack, rows: FixedRows, members: Sequence[Member], taken: Taken) -> Tensor:
    """The numbers of every row, ``[K, M, V]``, 64-bit and on the CPU; ``[1, M, V]`` of the base without ``members``."""

    def with_most(most: int) -> Tensor:
        groups = [members[first : first + most] for first in range(0, len(members), most)] or [members]
        with pack.wary(unless=most == 1):
            return torch.cat([_together(pack, rows, group, taken, most) for group in groups])

    values, rows.per_forward = pack.in_fewer_rows(with_most, rows.per_forward)
    return values


def repeated(values: Tensor, copies: int) -> Tensor:
    """``values`` so often, one after another."""
    return values.repeat(copies, *[1] * (values.ndim - 1))


@torch.no_grad()
def _together(pack: Pack, rows: FixedRows, members: Sequence[Member], taken: Taken, most: int) -> Tensor:
    copies = max(1, len(members))
    chunk = most // copies
    parts = [slice(first, first + chunk) for first in range(0, len(rows), chunk)]
    values = [_chunk(pack, rows, part, members, taken).unflatten(1, (copies, -1)) for part in parts]
    return torch.cat(values, dim=2).transpose(0, 1).double().cpu()


def _chunk(pack: Pack, rows: FixedRows, part: slice, members: Sequence[Member], taken: Taken) -> Tensor:
    """``[M, K * rows]``, or ``[M, rows]`` of the base."""
    copies = max(1, len(members))
    pack.end_if_stopped()
    inputs = {name: repeated(values, copies) for name, values in part_of(rows.inputs, part).items()}
    around: AbstractContextManager[None] = nullcontext()
    if members:
        places = tuple(pack.bank.place(member.name) for member in members)
        count = len(next(iter(inputs.values()))) // copies
        around = pack.bank.rows(RowPlan(places=places, counts=(count,) * copies))
    with around:
        judged = pack.task.judged(inputs)
    return taken(judged, part)
