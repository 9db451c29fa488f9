"""Optimizers, a file each; what such a file tells is :class:`OptimizerChoice`, and the pack steps them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from lora_foundry.config.choices import OPTIMIZERS, Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from lora_foundry.config.schema import OptimizerConfig


class OptimizerChoice(Choice, ABC):
    """What decides how a member's weights move.

    Attributes:
        packed: Whether members may share a step. It must treat each number by itself, so that the zeros that pad
            smaller ranks stay zero; its state must be there once it is built, all of it of the parameter's shape or a
            single number; and its step must take no memory, so that it is done or was not begun.
    """

    packed: ClassVar[bool] = False

    @abstractmethod
    def state_copies(self, config: OptimizerConfig) -> float:
        """Numbers that its state holds for each number of the adapter: what predicted memory goes by."""

    @abstractmethod
    def build(self, parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
        """The optimizer of one member; the rate of each of its groups is set before every step.

        Args:
            parameters: The member's matrices, or, where ``packed``, its one row of the bank.
            config: The member's settings.
        """

    def scale(self, group: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        """What the next step multiplies its rate by; None where it takes the rate as it is.

        Args:
            group: Of torch's ``param_groups``, before that step.
        """
        return None


def optimizer_choice(name: str) -> OptimizerChoice:
    """The optimizer of that name (``optimizer.name``)."""
    return OPTIMIZERS.load(name, OptimizerChoice)
