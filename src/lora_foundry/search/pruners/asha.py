"""Asynchronous successive halving (Li et al. 2020): at each rung the best ``1/prune_factor`` go on.

A job that gets to a rung is compared with those that got there before it, and waits for nobody. Rungs are at
``prune_from`` samples, and then at ``prune_factor`` times as many, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.pruners import Pace, PrunerChoice

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from lora_foundry.config.launcher import Settings


class _Asha(PrunerChoice):
    def build(self, settings: Settings, pace: Pace) -> BasePruner:
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(
            min_resource=settings.prune_from or pace.unit, reduction_factor=settings.prune_factor
        )


CHOICE = _Asha()
