"""Engines by name (``hydra.launcher.engine``); a new one is a file here and a line in :data:`ENGINES`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.launch.engines.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from src.launch.engines.protocol import Engine
    from src.launch.settings import Settings

ENGINES: dict[str, Callable[[Settings], Engine]] = {"local": LocalEngine}
