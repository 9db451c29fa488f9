"""Hyperband (Li et al. 2018): successive halving with several first rungs, for when early losses may mislead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.pruners import Pace, PrunerChoice

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from lora_foundry.config.launcher import Settings


class _Hyperband(PrunerChoice):
    def build(self, settings: Settings, pace: Pace) -> BasePruner:
        from optuna.pruners import HyperbandPruner

        first = settings.prune_from or pace.unit
        return HyperbandPruner(
            min_resource=first, max_resource=max(pace.longest, first), reduction_factor=settings.prune_factor
        )


CHOICE = _Hyperband()
