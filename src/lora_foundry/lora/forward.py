"""What the packed layers are told of the forward of the base that is under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from lora_foundry.lora.dropout import Masks
    from lora_foundry.lora.gradients import Sums
    from lora_foundry.lora.rows import RowPlan


@dataclass(kw_only=True, slots=True)
class Forward:
    """One forward, and the backward pass that belongs to it.

    Attributes:
        plan: Whose row is whose.
        parts: By layer and part: leaves ``[M, ...]`` in the base's dtype, one entry a block of the plan.
        sums: Where a backward pass may add their gradients itself.
        masks: What is dropped; None where nothing is.
        dtype: Of the adapters.
        device: Of the base.
    """

    plan: RowPlan
    parts: Mapping[str, Mapping[str, Tensor]]
    sums: Sums
    masks: Masks | None
    dtype: torch.dtype
    device: torch.device
    _strengths: dict[tuple[float, ...], Tensor | None] = field(default_factory=dict)

    def strengths(self, scales: tuple[float, ...]) -> Tensor | None:
        """``[N, 1, 1]``: what each row's update is multiplied by; None where that is 1 for all.

        Made once for all layers of the same scales. What dropout keeps is scaled by 1/(1-p) here, behind A, where a row
        has least numbers.

        Args:
            scales: alpha/rank (or alpha/sqrt(rank)) by place.
        """
        if scales not in self._strengths:
            plan = self.plan
            places = [place for place, count in zip(plan.places, plan.counts, strict=True) for _ in range(count)]
            kept = [key.strength for key in plan.dropout] or [1.0] * plan.n_rows
            rows = [scales[place] * plan.scale * one for place, one in zip(places, kept, strict=True)]
            self._strengths[scales] = None if all(one == 1.0 for one in rows) else self._of_rows(rows)
        return self._strengths[scales]

    def _of_rows(self, numbers: list[float]) -> Tensor:
        # Nothing waits for the copy, or a card would stand still for it.
        return torch.tensor(numbers, dtype=self.dtype)[:, None, None].to(self.device, non_blocking=True)
