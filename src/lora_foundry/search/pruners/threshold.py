"""Who is beyond ``prune_above`` ends, whatever the others do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.pruners import Pace, PrunerChoice

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from lora_foundry.config.launcher import Settings


class _Threshold(PrunerChoice):
    def problems(self, group: Settings, /) -> list[str]:
        if group.prune_above is not None:
            return []
        return ["hydra.launcher.prune_above: pruner=threshold needs it: the value beyond which a job is pruned"]

    def build(self, settings: Settings, pace: Pace) -> BasePruner:
        from optuna.pruners import ThresholdPruner

        bound, first = settings.prune_above, (settings.prune_from or pace.unit) - 1
        if settings.prune_maximize:
            return ThresholdPruner(lower=bound, n_warmup_steps=first)
        return ThresholdPruner(upper=bound, n_warmup_steps=first)


CHOICE = _Threshold()
