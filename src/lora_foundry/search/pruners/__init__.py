"""Pruners, a file each (``hydra.launcher.pruner``): which jobs are not worth their place any more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_foundry.config.choices import PRUNERS, Choice

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from lora_foundry.config.launcher import Settings


@dataclass(frozen=True, slots=True)
class Pace:
    """How often jobs report.

    Attributes:
        unit: Samples between two reports.
        longest: Samples of the longest job.
    """

    unit: int
    longest: int


class PrunerChoice(Choice, ABC):
    """One rule; its ``problems`` are asked of the launcher's settings."""

    @abstractmethod
    def build(self, settings: Settings, pace: Pace) -> BasePruner | None:
        """Optuna's pruner, whose steps are samples; None ends no job."""


def pruner_choice(name: str) -> PrunerChoice:
    """The choice of that name."""
    return PRUNERS.load(name, PrunerChoice)
