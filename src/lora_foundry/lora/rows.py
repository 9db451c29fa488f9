"""Which rows of a joined batch belong to which member."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    _index: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.places) != len(self.counts) or not self.places or min(self.counts) < 1:
            msg = f"got places {self.places} and counts {self.counts}, allowed is one count of at least 1 a place"
            raise ValueError(msg)
        if self.dropout and len(self.dropout) != self.n_rows:
            msg = f"got {len(self.dropout)} dropout keys, allowed is one for each of {self.n_rows} rows"
            raise ValueError(msg)

    @property
    def n_rows(self) -> int:
        """N, the rows of the joined batch."""
        return sum(self.counts)

    @property
    def uniform(self) -> bool:
        """Whether every block has the same number of rows, so that they stack into one batch of blocks."""
        return len(set(self.counts)) == 1

    def row_index(self, device: torch.device) -> Tensor:
        """``[N]`` bank place of each row; made once a plan and device."""
        return self._made(("rows", device), self._by_row(self.places))

    def block_of_row(self, device: torch.device) -> Tensor:
        """``[N]`` number of each row's block; made once a plan and device."""
        return self._made(("block of row", device), self._by_row(range(len(self.places))))

    def _by_row(self, of_block: Sequence[int]) -> list[int]:
        return [one for one, count in zip(of_block, self.counts, strict=True) for _ in range(count)]

    def _made(self, key: tuple[str, torch.device], numbers: Sequence[int]) -> Tensor:
        if key not in self._index:
            # Nothing waits for the copy, or a card would stand still for it.
            self._index[key] = torch.tensor(numbers).to(key[1], non_blocking=True)
        return self._index[key]

    def slices(self) -> list[slice]:
        """The rows of each block."""
        ends = [0]
        for count in self.counts:
            ends.append(ends[-1] + count)
        return [slice(low, high) for low, high in pairwise(ends)]
