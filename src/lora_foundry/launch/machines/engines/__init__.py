"""Engines, a file each (``hydra.launcher.engine``): what starts, watches and ends workers on one kind of machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lora_foundry.config.choices import ENGINES, Choice

if TYPE_CHECKING:
    from lora_foundry.config.launcher import Settings
    from lora_foundry.launch.machines.engine import Engine


class EngineChoice(Choice, ABC):
    """One kind of machine; its ``problems`` are asked of the launcher's settings."""

    @abstractmethod
    def build(self, settings: Settings) -> Engine:
        """Its engine, for one sweep; nothing is started."""


def engine_of(settings: Settings) -> Engine:
    """The engine that ``settings`` name, built: once for a sweep, whatever asks it."""
    return ENGINES.load(settings.engine, EngineChoice).build(settings)
