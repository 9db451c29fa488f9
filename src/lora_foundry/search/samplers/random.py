"""At random (Bergstra & Bengio 2012)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.samplers import SamplerChoice

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from lora_foundry.search.space import Space


class _Random(SamplerChoice):
    def build(self, space: Space, seed: int | None) -> BaseSampler:  # noqa: ARG002
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)


CHOICE = _Random()
