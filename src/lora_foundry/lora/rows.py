"""Which rows of a joined batch belong to which member."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lora_foundry.lora.dropout import DropoutKey


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """The rows of one forward of the base, in blocks of one member each.

    Attributes:
        places: The bank place (0 <= place < K) of each block's member; a place may come again.
        counts: Rows of each block, N in all.
        scale: Multiplies alpha/rank of every member; 0.8 draws with the adapter at that strength.
        dropout: One key a row in training, empty where nothing is dropped.
    """

    places: tuple[int, ...]
    counts: tuple[int, ...]
    scale: float = 1.0
    dropout: tuple[DropoutKey, ...] = ()
    _index: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.places) != len(self.counts) or not self.places or min(self.counts) < 1:
            msg = f"got places {self.places} and counts {self.counts}, allowed is one count of at least 1 a place"
            raise ValueError(msg)
        if self.dropout and len(self.dropout) != self.n_rows:
            msg = f"got {len(self.dropout)} dropout keys, allowed is one for each of {self.n_rows} rows"
            raise ValueError(msg)

    @cached_property
    def n_rows(self) -> int:
        """N, the rows of the joined batch."""
        return sum(self.counts)

    @cached_property
    def uniform(self) -> bool:
        """Whether every block has the same number of rows, so that they stack into one batch of blocks."""
        return len(set(self.counts)) == 1

    def block_of_row(self, device: torch.device) -> Tensor:
        """``[N]`` number of each row's block; made once a plan and device."""
        if device not in self._index:
            numbers = [block for block, count in enumerate(self.counts) for _ in range(count)]
            # Nothing waits for the copy, or a card would stand still for it.
            self._index[device] = torch.tensor(numbers).to(device, non_blocking=True)
        return self._index[device]

    def slices(self) -> list[slice]:
        """The rows of each block."""
        ends = [0]
        for count in self.counts:
            ends.append(ends[-1] + count)
        return [slice(low, high) for low, high in pairwise(ends)]
