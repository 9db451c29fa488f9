"""The loss that is trained on, before any weight: what adapters are compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.tasks.metrics import MetricChoice

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.tasks.protocol import Judged


class _Loss(MetricChoice):
    def of_rows(self, judged: Judged) -> Tensor:
        return judged.losses


CHOICE = _Loss()
