"""Stochastic gradient descent with momentum (Sutskever et al. 2013), from torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from lora_foundry.config.choices import Options
from lora_foundry.config.constraints import Between
from lora_foundry.training.optimizers import OptimizerChoice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lora_foundry.config.schema import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options(Options):
    """What torch calls so.

    Attributes:
        momentum: Share of the last update that the next one keeps.
    """

    momentum: Annotated[float, Between(0.0, 0.999)] = 0.9


class _Sgd(OptimizerChoice):
    options = _Options

    def problems(self, group: OptimizerConfig, /) -> list[str]:
        return [] if group.lr <= 1 else [f"optimizer.lr: got {group.lr:g} with sgd, allowed is 1 at most"]

    def state_copies(self, config: OptimizerConfig) -> float:
        return 1.0 if cast("_Options", config.options).momentum else 0.0

    def build(self, parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
        import torch

        own = cast("_Options", config.options)
        return torch.optim.SGD(parameters, lr=config.lr, momentum=own.momentum, weight_decay=config.weight_decay)


CHOICE = _Sgd()
