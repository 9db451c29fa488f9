"""A base that is no file: its weights are drawn from its own seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_foundry.models.targets import resolve_targets, target_layers

HIDDEN, ANSWERS = 8, 3
READER = "text_encoder.text_model.read"


class Network(nn.Module):
    """Two layers and a bend."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, ANSWERS)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Reader(nn.Module):
    """Reads a question for the network, as a text encoder reads a caption; its names are those that files have."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.text_model = nn.ModuleDict({"read": nn.Linear(width, width)})

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.text_model["read"](x))


class Regressor:
    """Implements :class:`lora_foundry.models.protocol.Base`."""

    device = torch.device("cpu")

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        self.dtype = dtype
        with torch.random.fork_rng():
            torch.manual_seed(4)
            made = {"net": Network(width), "text_encoder": Reader(width)}
        self.components = {
            name: network.to(dtype).requires_grad_(requires_grad=False).eval() for name, network in made.items()
        }
        self.layers: Mapping[str, str] = target_layers(self.components)

    def answer(self, x: Tensor) -> Tensor:
        return self.components["net"](self.components["text_encoder"](x))

    def set_gradient_checkpointing(self, *, enabled: bool) -> None:
        """Nothing is worth computing twice."""

    def target_names(self, target_modules: str | Sequence[str]) -> list[str]:
        return resolve_targets(self.layers, target_modules)


class RegressorFiles:
    """What of :class:`lora_foundry.models.protocol.BaseFiles` a base without pictures has."""

    remarks = ()

    def __init__(self, width: int) -> None:
        self.width = width
        self.base_hash = f"{width:064d}"

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        return {"first": (HIDDEN, self.width), "second": (ANSWERS, HIDDEN), READER: (self.width, self.width)}

    def weight_bytes(self, dtype: torch.dtype) -> int:
        return sum(rows * columns for rows, columns in self.layers().values()) * dtype.itemsize

    def load(self, dtype: torch.dtype) -> Regressor:
        return Regressor(self.width, dtype)


def open_files(model: Any) -> RegressorFiles:
    return RegressorFiles(model.width)


def file_problems(model: Any, start: Path | None) -> list[str]:  # noqa: ARG001
    return []


def layers_of(model: Any, start: Path | None) -> Mapping[str, tuple[int, ...]]:  # noqa: ARG001
    return open_files(model).layers()
