"""Groups in which something is chosen, made without YAML."""

from __future__ import annotations

from lora_foundry.config.choices import OPTIMIZERS, Choice
from lora_foundry.config.schema import OptimizerConfig


def optimizer(
    name: str, *, lr: float = 0.5, betas: tuple[float, float] = (0.7, 0.9), eps: float = 2e-3, decay: float = 0.2
) -> OptimizerConfig:
    """Settings of an optimizer, none of them any library's default."""
    options = OPTIMIZERS.load(name, Choice).options()
    return OptimizerConfig(name=name, lr=lr, betas=betas, eps=eps, weight_decay=decay, options=options)
