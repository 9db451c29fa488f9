"""AdamW (Loshchilov & Hutter 2019), for all members of a pack in one fused call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.training.optimizers import OptimizerChoice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lora_foundry.config.schema import OptimizerConfig


class _AdamW(OptimizerChoice):
    packed = True

    def state_copies(self, config: OptimizerConfig) -> float:  # noqa: ARG002
        return 2.0  # the first and the second moment

    def build(self, parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
        import torch

        first, second = config.betas
        built = torch.optim.AdamW(
            parameters, lr=0.0, betas=(first, second), eps=config.eps, weight_decay=config.weight_decay, fused=True
        )
        for one in parameters:
            built.state[one] = {
                "step": torch.zeros((), dtype=torch.float32, device=one.device),
                "exp_avg": torch.zeros_like(one),
                "exp_avg_sq": torch.zeros_like(one),
            }
        return built


CHOICE = _AdamW()
