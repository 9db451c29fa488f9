"""Where a backward pass adds up the gradients of the adapters' parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

Parts: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""Views of a block ``[M, P]`` by layer and part, ``[M, ...]`` each."""


class Sums:
    """The gradients of one forward's parts, in a block ``[M, P]``.

    Products are written where they belong: a pass over all of them afterwards takes as long as the optimizer does.

    Args:
        give: Gives the block and its views, in the order in which they lie; asked when the first gradient comes.
        begun: Whether the block holds what is to be added to. Else what comes first takes the place of what is there.
    """

    def __init__(self, give: Callable[[], tuple[Tensor, Parts]], *, begun: bool) -> None:
        self._give = give
        self._begun = begun
        self._block: Tensor | None = None
        self._parts: Parts = {}
        self._seen: set[str] = set()
        self._aside: dict[tuple[str, str], Tensor] = {}

    def add_products(self, layer: str, products: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Add ``left [M, R, T] right [M, T, C]`` of each of the layer's parts."""
        places = self._of(layer)
        goes_on = self._begun or layer in self._seen
        self._seen.add(layer)
        for part, (left, right) in products.items():
            place = places[part]
            if not place.is_cpu or place.size(0) == 1:
                place.baddbmm_(left, right, beta=int(goes_on))
                continue
            # A CPU computes block by block what does not lie in one piece.
            product = torch.bmm(left, right)
            if goes_on:
                place.add_(product)
            else:
                place.copy_(product)

    def add(self, layer: str, part: str, gradient: Tensor) -> None:
        """Add ``gradient [M, ...]``, which is whole: no product comes to it any more."""
        place = self._of(layer)[part]
        if self._begun or layer in self._seen:
            place.add_(gradient)
        else:
            self._aside[layer, part] = gradient  # joined to the others in one operation

    def whole(self) -> Tensor | None:
        """The block, where it has to be added to something yet."""
        if self._block is None or self._begun:
            return None
        lie = []
        for layer, parts in self._parts.items():
            for part, place in parts.items():
                if layer not in self._seen and (layer, part) not in self._aside:
                    place.zero_()
                lie.append(self._aside.get((layer, part), place).flatten(1))
        return torch.cat(lie, dim=1) if self._aside else self._block

    def undo(self) -> None:
        """Let there be no gradient of a pass that broke, nor what it was added to: their step is to be begun anew."""
        if self._block is not None:
            self._block.zero_()

    def _of(self, layer: str) -> Mapping[str, Tensor]:
        if self._block is None:
            self._block, self._parts = self._give()
        return self._parts[layer]
