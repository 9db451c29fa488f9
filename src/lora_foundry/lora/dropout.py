"""LoRA dropout from counters and integers alone: which inputs are dropped is the same on every device, bit for bit.

A generator's numbers are its device's own, and its state is what activation checkpointing and pack-mates would have to
share. So the draw is a hash (Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3), made of operations that
wrap alike everywhere and shift no sign bit: with ``fold(x) = x ^ (x >>> 16)`` on words of 32 bits, each of which draws
for two neighbours,

    T[w]    = fold(C fold(G w))                              of word w of a row, whatever row and layer
    a, b    = the halves of fmix64(row key ^ layer key)      of a row in a layer, a made odd
    x[w]    = fold(C fold(a T[w] + b))                       its lower 16 bits are element 2w's, the upper 2w + 1's

and an element is dropped where its 16 bits, as a signed number, are below 65536 p - 32768. C is Mueller's multiplier
(stackoverflow.com/a/12996028), G Knuth's, fmix64 MurmurHash3's finalizer. A row's key is named by (seed, sample), so a
mask depends on neither row, pack-mates nor how often it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_foundry.config.streams import stream_key

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEVELS = 2**16
_MUELLER, _KNUTH = 0x45D9F3B, 0x9E3779B1 - 2**32
_FMIX = (0xFF51AFD7ED558CCD - 2**64, 0xC4CEB9FE1A85EC53 - 2**64)


@dataclass(frozen=True, kw_only=True, slots=True)
class DropoutKey:
    """Names the dropout of one row: the draw is a function of (seed, ordinal, layer) alone.

    Attributes:
        seed: The member's seed.
        ordinal: The sample's ordinal in the member's own stream.
        probability: Share of the inputs dropped, to the next 65536th.
    """

    seed: int
    ordinal: int
    probability: float

    @property
    def dropped(self) -> int:
        """That share in 65536ths."""
        return round(self.probability * _LEVELS)

    @property
    def strength(self) -> float:
        """What is kept is multiplied by this, so that a layer's expected input stays what it is."""
        return _LEVELS / (_LEVELS - self.dropped)


class Dropout:
    """The masks of one bank's layers.

    Args:
        layers: Their names.
        device: Where they are drawn.
    """

    def __init__(self, layers: Sequence[str], device: torch.device) -> None:
        self._device = device
        self._index = {name: index for index, name in enumerate(layers)}
        keys = [stream_key(0, "dropout layer", name) for name in layers]
        self._layers = torch.tensor(keys, dtype=torch.int64, device=device)[:, None]
        self._table = torch.empty(0, dtype=torch.int32, device=device)

    def begin(self, rows: Sequence[DropoutKey]) -> Masks:
        """What the rows of one forward drop, drawn layer by layer as they ask for it."""
        keys = [stream_key(row.seed, "dropout", row.ordinal) for row in rows]
        mixed = _fmix64(self._here(keys, torch.int64) ^ self._layers)
        halves = mixed.view(torch.int32).unflatten(-1, (-1, 2, 1))
        limits = [row.dropped - _LEVELS // 2 for row in rows]
        return Masks(
            self,
            offsets=halves[:, :, 0],
            factors=halves[:, :, 1] | 1,
            limits=self._here(limits, torch.int16)[:, None],
        )

    def _here(self, numbers: list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(numbers, dtype=dtype).to(self._device, non_blocking=True)  # nothing waits for the copy

    def place(self, layer: str) -> int:
        """Which of the layers that is."""
        return self._index[layer]

    def words(self, count: int) -> Tensor:
        """``T[0]`` to ``T[count - 1]``, int32; kept for the layers and steps that follow."""
        if len(self._table) < count:
            self._table = _fold(_fold(torch.arange(count, dtype=torch.int32, device=self._device) * _KNUTH) * _MUELLER)
        return self._table[:count]


class Masks:
    """What one forward drops."""

    def __init__(self, source: Dropout, *, offsets: Tensor, factors: Tensor, limits: Tensor) -> None:
        """Take in ``b`` and ``a [L, N, 1]`` of each layer and row, and ``[N, 1]`` below which 16 bits are dropped."""
        self._source = source
        self._offsets, self._factors, self._limits = offsets, factors, limits

    def keep(self, layer: str, x: Tensor) -> Tensor:
        """Which elements of that layer's input ``x [N, ...]`` stay: bool, of its shape."""
        place, elements = self._source.place(layer), x[0].numel()
        words = self._source.words((elements + 1) // 2)
        drawn = torch.addcmul(self._offsets[place], self._factors[place], words)
        drawn = _fold(_fold(drawn).mul_(_MUELLER))
        return (drawn.view(torch.int16)[:, :elements] >= self._limits).view(x.shape)


def _fold(words: Tensor) -> Tensor:
    """``x ^ (x >>> 16)`` of int32 in place: halves of words are seen as such, which needs no sign to be masked.

    The lower half comes first in memory on every machine that torch trains on.
    """
    halves = words.view(torch.int16).unflatten(-1, (-1, 2))
    halves[..., 0].bitwise_xor_(halves[..., 1])
    return words


def _fmix64(keys: Tensor) -> Tensor:
    for factor in _FMIX:
        keys = (keys ^ ((keys >> 33) & 0x7FFFFFFF)) * factor
    return keys ^ ((keys >> 33) & 0x7FFFFFFF)
