"""Samplers, a file each (``hydra.sweeper.sampler``): what suggests the next trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from lora_foundry.config.choices import SEARCHERS, Choice

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from lora_foundry.search.space import Space


class SamplerChoice(Choice, ABC):
    """One way to suggest trials.

    Attributes:
        several: Whether it takes several objectives.
        constrained: Whether it minds bounds on other metrics.
    """

    several: ClassVar[bool] = True
    constrained: ClassVar[bool] = True

    def unsuited(self, space: Space) -> list[str]:  # noqa: ARG002
        """What of a space it cannot search, a line each."""
        return []

    @abstractmethod
    def build(self, space: Space, seed: int | None) -> BaseSampler:
        """Optuna's sampler."""


def sampler_choice(name: str) -> SamplerChoice:
    """The choice of that name."""
    return SEARCHERS.load(name, SamplerChoice)
