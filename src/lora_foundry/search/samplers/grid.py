"""Every combination, in the order of a sweep: the last key fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.search.samplers import SamplerChoice

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from lora_foundry.search.space import Space


class _Grid(SamplerChoice):
    def unsuited(self, space: Space) -> list[str]:
        return [
            f"{one.key}: an interval has no combinations for sampler=grid; list values, or use range(start,stop,step)"
            for one in space.dimensions
            if one.values is None
        ]

    def build(self, space: Space, seed: int | None) -> BaseSampler:  # noqa: ARG002
        from lora_foundry.search.unrepeated import InOrder

        return InOrder(space)


CHOICE = _Grid()
