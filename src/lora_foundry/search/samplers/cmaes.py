"""CMA-ES (Hansen 2016): for a few keys in intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lora_foundry.search.samplers import SamplerChoice

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from lora_foundry.search.space import Space


class _CmaEs(SamplerChoice):
    several: ClassVar[bool] = False
    constrained: ClassVar[bool] = False

    def unsuited(self, space: Space) -> list[str]:
        return [
            f"{one.key}: sampler=cmaes searches numbers alone, and would take listed values at random; "
            "give interval(...) or range(...), or choose sampler=tpe"
            for one in space.dimensions
            if one.is_list
        ]

    def build(self, space: Space, seed: int | None) -> BaseSampler:  # noqa: ARG002
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(seed=seed, warn_independent_sampling=False)


CHOICE = _CmaEs()
