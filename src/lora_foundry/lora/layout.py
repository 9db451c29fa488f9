"""How the numbers of an adapter lie in a row of a bank, and how a row laid out in one way becomes one of another.

Each layer's parts lie one behind the other, each as large as the largest member's. A part's leading dimension is the
rank, if it has one at all, so a smaller adapter's numbers come first in each part, and zeros are behind them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_foundry.lora.inject import handle, packed_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from lora_foundry.lora.inject import Networks
    from lora_foundry.lora.packed import PackedLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where one layer lies in a bank row: its parts one behind the other, each as large as the largest member's.

    Attributes:
        name: The layer's dotted name.
        layer: That layer.
        start: Where its first part begins.
        shapes: Its parts.
    """

    name: str
    layer: PackedLayer
    start: int
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def end(self) -> int:
        """Behind the last part."""
        return self.start + sum(math.prod(shape) for shape in self.shapes.values())

    def holds(self, part: str) -> int:
        """Numbers of a part; 0 where there is none of that name."""
        return math.prod(self.shapes[part]) if part in self.shapes else 0

    def places(self) -> Iterator[tuple[str, int, int]]:
        """Each part, where in a row it begins, and its numbers."""
        start = self.start
        for part in self.shapes:
            yield part, start, self.holds(part)
            start += self.holds(part)

    def rank(self, member: str) -> int:
        """The member's own rank here; 0 where it has no such target."""
        return self.layer.rank(handle(member))

    def cut(self, block: Tensor) -> dict[str, Tensor]:
        """The parts as views of ``block [..., P]``, whose rows are whole."""
        return self._views(block, self.shapes)

    def own(self, row: Tensor, member: str) -> dict[str, Tensor]:
        """The member's parts without padding, as views of ``row [P]``; none where it has no such target."""
        rank = self.rank(member)
        return self._views(row, self.layer.shapes(rank)) if rank else {}

    def _views(self, block: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        return {part: _view(block, start, self.shapes[part], shapes[part]) for part, start, _ in self.places()}


def _view(block: Tensor, start: int, whole: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The corner of ``shape`` in what lies ``whole`` at ``start`` of each row of ``block [..., P]``.

    It is one operation: a trace (``memory/trace.py``) pays for each.
    """
    strides = [block.stride(-1)]
    for size in reversed(whole[1:]):
        strides.insert(0, strides[0] * size)
    return block.as_strided(
        (*block.shape[:-1], *shape), (*block.stride()[:-1], *strides), block.storage_offset() + start
    )


def lay_out(base: nn.Module | Networks, members: Sequence[str]) -> tuple[Span, ...]:
    """The layers that ``members`` target, each with room for the largest of them."""
    spans: list[Span] = []
    for name, layer in packed_layers(base).items():
        rank = max((layer.rank(handle(member)) for member in members), default=0)
        if rank:
            spans.append(Span(name=name, layer=layer, start=length(spans), shapes=layer.shapes(rank)))
    return tuple(spans)


def length(spans: Sequence[Span]) -> int:
    """P, the numbers of a row."""
    return spans[-1].end if spans else 0


def has_room(spans: Sequence[Span], wanted: Sequence[Span]) -> bool:
    """Whether a row laid out as ``spans`` holds all that one laid out as ``wanted`` does."""
    here = {span.name: span for span in spans}
    return all(
        span.name in here and all(here[span.name].holds(part) >= span.holds(part) for part in span.shapes)
        for span in wanted
    )


def relaid(row: Tensor, before: Sequence[Span], after: Sequence[Span]) -> Tensor:
    """``row [P]`` laid out as ``before``, laid out as ``after`` ``[P']``: a copy, in one operation.

    What ``after`` has no room for is left behind: of a member that it was made for that is zeros.
    """
    pieces = _pieces(before, after)
    zeros = row.new_zeros(max((count for start, count in pieces if start is None), default=0))
    return torch.cat([zeros[:n] if start is None else row[start : start + n] for start, n in pieces] or [zeros])


def _pieces(before: Sequence[Span], after: Sequence[Span]) -> list[tuple[int | None, int]]:
    """Start in a row of ``before`` (None for zeros) and length of what makes up one of ``after``, as few as can be."""
    here = {(span.name, part): (start, count) for span in before for part, start, count in span.places()}
    pieces: list[tuple[int | None, int]] = []
    for span in after:
        for part, _, count in span.places():
            start, held = here.get((span.name, part), (0, 0))
            kept = min(held, count)
            _append(pieces, start, kept)
            _append(pieces, None, count - kept)
    return pieces


def _append(pieces: list[tuple[int | None, int]], start: int | None, count: int) -> None:
    if not count:
        return
    if pieces:
        last, length_of_last = pieces[-1]
        if start == (None if last is None else last + length_of_last):
            pieces[-1] = last, length_of_last + count
            return
    pieces.append((start, count))
