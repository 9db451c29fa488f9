"""Adafactor (Shazeer & Stern 2018) from torch: it keeps rows and columns of a matrix, so each member has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.training.optimizers import OptimizerChoice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lora_foundry.config.schema import OptimizerConfig


class _Adafactor(OptimizerChoice):
    def state_copies(self, config: OptimizerConfig) -> float:  # noqa: ARG002
        return 0.1  # a row and a column of each matrix; of the thin ones of an adapter that is no more

    def build(self, parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adafactor(parameters, lr=config.lr, eps=(None, config.eps), weight_decay=config.weight_decay)


CHOICE = _Adafactor()
