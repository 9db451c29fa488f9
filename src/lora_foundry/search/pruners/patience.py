"""Who has not improved for ``prune_patience`` samples ends, whatever the others do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.pruners import Pace, PrunerChoice

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from lora_foundry.config.launcher import Settings


class _Patience(PrunerChoice):
    def problems(self, group: Settings, /) -> list[str]:
        if group.prune_patience is not None:
            return []
        return ["hydra.launcher.prune_patience: pruner=patience needs it: samples without an improvement"]

    def build(self, settings: Settings, pace: Pace) -> BasePruner:
        from lora_foundry.search.rules import Unimproved

        return Unimproved(settings.prune_patience or pace.longest)


CHOICE = _Patience()
