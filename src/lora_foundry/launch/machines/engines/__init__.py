"""Engines by name (``hydra.launcher.engine``); a new one is a file here and a line in :data:`ENGINES`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.launch.machines.engines.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from lora_foundry.config.launcher import Settings
    from lora_foundry.launch.machines.engines.protocol import Engine

ENGINES: dict[str, Callable[[Settings], Engine]] = {"local": LocalEngine}


def engine_of(settings: Settings) -> Engine:
    """The engine that ``settings`` name, built: once for a sweep, whatever asks it."""
    return ENGINES[settings.engine](settings)
