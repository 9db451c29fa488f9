"""NSGA-II (Deb et al. 2002): for several objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.samplers import SamplerChoice

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from lora_foundry.search.space import Space


class _Nsga2(SamplerChoice):
    def build(self, space: Space, seed: int | None) -> BaseSampler:  # noqa: ARG002
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed)


CHOICE = _Nsga2()
