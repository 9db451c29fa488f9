"""Tree-structured Parzen estimator (Bergstra et al. 2011), over all keys at once (Falkner et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.samplers import SamplerChoice

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from lora_foundry.search.space import Space


class _Tpe(SamplerChoice):
    def build(self, space: Space, seed: int | None) -> BaseSampler:  # noqa: ARG002
        from optuna.samplers import TPESampler

        # Trials under way count as bad ones, so that those that train together are not all alike.
        return TPESampler(seed=seed, multivariate=True, constant_liar=True)


CHOICE = _Tpe()
