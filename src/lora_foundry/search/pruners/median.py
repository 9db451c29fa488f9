"""The median rule (Golovin et al. 2017): who is worse than half of the others were with as many samples ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.pruners import Pace, PrunerChoice

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from lora_foundry.config.launcher import Settings


class _Median(PrunerChoice):
    def build(self, settings: Settings, pace: Pace) -> BasePruner:
        from lora_foundry.search.rules import MedianOfAll

        return MedianOfAll(settings.prune_from or pace.unit)


CHOICE = _Median()
