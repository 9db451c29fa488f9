"""Prodigy (Mishchenko & Defazio 2023): it finds the rate itself, from whole matrices, so each member has its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from lora_foundry.config.choices import Options
from lora_foundry.config.constraints import MoreThan
from lora_foundry.training.optimizers import OptimizerChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from lora_foundry.config.schema import OptimizerConfig

_LEAST_LR = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options(Options):
    """What prodigyopt calls so.

    Attributes:
        d_coef: Factor of the rate that it finds, 0.5 to 2 as a rule: the way to tune it.
        use_bias_correction: Correct the moments of the first steps, as Adam does.
        safeguard_warmup: Leave the schedule's rate out of the estimate, so that a warm-up does not distort it.
    """

    d_coef: Annotated[float, MoreThan(0.0)] = 1.0
    use_bias_correction: bool = False
    safeguard_warmup: bool = False


class _Prodigy(OptimizerChoice):
    options = _Options

    def problems(self, group: OptimizerConfig, /) -> list[str]:
        if group.lr >= _LEAST_LR:
            return []
        return [
            f"optimizer.lr: got {group.lr:g} with prodigy, allowed is {_LEAST_LR:g} or more "
            "(it scales lr itself; use 1.0)"
        ]

    def state_copies(self, config: OptimizerConfig) -> float:  # noqa: ARG002
        return 4.0  # both moments, the weights as they began and the sum of gradients

    def build(self, parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
        from prodigyopt import Prodigy

        own = cast("_Options", config.options)
        return Prodigy(
            parameters,
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            d_coef=own.d_coef,
            use_bias_correction=own.use_bias_correction,
            safeguard_warmup=own.safeguard_warmup,
        )

    def scale(self, group: Mapping[str, Any]) -> float | None:
        return float(group["d"])  # the step raises it for the one after


CHOICE = _Prodigy()
