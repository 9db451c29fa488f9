"""The mean absolute error: less moved by a few numbers that are far off than the squared one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.tasks.metrics import MetricChoice

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.tasks.protocol import Judged


class _Absolute(MetricChoice):
    def of_rows(self, judged: Judged) -> Tensor:
        return (judged.prediction - judged.target).abs().flatten(1).mean(1)


CHOICE = _Absolute()
