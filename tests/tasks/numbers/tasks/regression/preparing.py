"""Questions that a job's seed of data asks, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_foundry.config.warned import Warned
from lora_foundry.data.records import DataError
from lora_foundry.tasks.protocol import Made


@dataclass(frozen=True)
class Numbers:
    """Questions ``[S, width]`` and answers ``[S, 3]``, to learn from and to be judged on."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Asked:
    """How many there are."""

    count: int
    data_hash: str = "d" * 64
    warnings: tuple[Warned, ...] = ()
    skipped: tuple[str, ...] = ()


class Preparing:
    """Implements :class:`lora_foundry.tasks.protocol.Preparation`; a data set's name says how many questions it has."""

    def key(self, config: Any) -> object:
        return config.data.name

    def check(self, config: Any, files: Any) -> Asked:  # noqa: ARG002
        count = int(config.data.name.removeprefix("numbers"))
        if count < 2:
            raise DataError([f"got {count} questions, allowed are at least 2"])
        return Asked(count)

    def warnings(self, config: Any, files: Any, data: Asked) -> list[Warned]:  # noqa: ARG002
        return [Warned(topic="numbers", text="few questions")] if data.count < 10 else []

    def make(self, config: Any, files: Any, data: Asked, **_: Any) -> Made:  # noqa: ARG002
        return Made(material=numbers(files.width, data.count), repeats=[1] * data.count)


def numbers(width: int, count: int) -> Numbers:
    """One linear map of random questions."""
    draw = torch.Generator().manual_seed(1)
    map_ = torch.randn(width, 3, generator=draw, dtype=torch.float64)
    train, held_out = (torch.randn(n, width, generator=draw, dtype=torch.float64) for n in (count, 6))
    return Numbers(train=(train, train @ map_), held_out=(held_out, held_out @ map_))


open_preparation = Preparing
