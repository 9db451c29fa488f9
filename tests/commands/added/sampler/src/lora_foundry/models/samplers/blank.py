"""What the decoder makes of nothing: one look at the base, and no picture of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_foundry.models.samplers import SamplerChoice

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.models.samplers import Predict


class _Blank(SamplerChoice):
    undoes = ("discrete",)

    def walk(self, predict: Predict, latents: Tensor, scheduler: Mapping[str, Any], steps: int) -> Tensor:  # noqa: ARG002
        return 0 * predict(latents, 0)


CHOICE = _Blank()
