"""Which jobs of a grid end early, as the search room judges it, which the launch room does not import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_foundry.config.launcher import Settings
    from lora_foundry.launch.farm.farm import Farm
    from lora_foundry.launch.farm.news import Listener


def pruning(settings: Settings, farm: Farm) -> Listener | None:
    """Implements :data:`lora_foundry.launch.farm.outside.Watch`."""
    if settings.pruner == "none":
        return None
    from lora_foundry.search.watch import Watch

    return Watch(settings, farm)
