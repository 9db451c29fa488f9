"""What torch says of the cards that a process sees: one line, from a process that is started to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lora_foundry.wire.lines import Kinds, Line, Loose


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchCard:
    """A card as torch sees it.

    Attributes:
        name: The model.
        total: Bytes.
        free: Bytes; null where the card does not answer.
        capability: Compute capability of one of NVIDIA's, such as (8, 9).
        architecture: That of one of AMD's, such as ``gfx1100``.
        problem: Why nothing can be computed on it, in torch's words; null where something was.
    """

    name: str
    total: int
    free: Loose[int]
    capability: Loose[tuple[int, ...]]
    architecture: Loose[str]
    problem: Loose[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchSays(Line):
    """What torch sees.

    Attributes:
        version: Its own.
        cuda: Of the CUDA that it is built for.
        hip: Of the ROCm that it is built for.
        cards: Those that it sees, in its order.
        problem: Why it sees none, in its own words.
    """

    tag: ClassVar[str] = "torch"
    version: str
    cuda: Loose[str]
    hip: Loose[str]
    cards: tuple[TorchCard, ...]
    problem: Loose[str]


ANSWERS: Kinds[TorchSays] = Kinds("kind", (TorchSays,))
