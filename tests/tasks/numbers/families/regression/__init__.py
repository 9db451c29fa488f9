"""Frozen networks of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lora_foundry.config.constraints import AtLeast
from lora_foundry.config.families import FamilyChoice
from lora_foundry.config.schema import ModelConfig, ObjectiveConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class NumbersModel(ModelConfig):
    """One of them.

    Attributes:
        width: Numbers of a question.
    """

    width: Annotated[int, AtLeast(1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class NumbersObjective(ObjectiveConfig):
    """The loss.

    Attributes:
        third: How much every third sample counts.
    """

    third: Annotated[float, AtLeast(0.0)]


class _Regression(FamilyChoice):
    task = "regression"
    noise = None
    groups = {"model": NumbersModel, "objective": NumbersObjective}  # noqa: RUF012  # declared by FamilyChoice


CHOICE = _Regression()
