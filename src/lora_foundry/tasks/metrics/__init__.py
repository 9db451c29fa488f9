"""What is measured of a member on its fixed rows, a file each; what such a file tells is :class:`MetricChoice`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lora_foundry.config.choices import METRICS, Choice

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.tasks.protocol import Judged


class MetricChoice(Choice, ABC):
    """A number of a member, the lower the better: ``val/<name>``, and ``val/<name>_rel`` over the base's own.

    It is taken in the forwards that the loss needs anyway, and on the rows that every run is judged on. The number must
    be a row's own: what a row gives may not depend on the rows beside it.
    """

    @abstractmethod
    def of_rows(self, judged: Judged) -> Tensor:
        """The number of each row, ``[N]``, without a gradient."""

    def over(self, values: Tensor) -> Tensor:
        """The mean, unless said: one number of those of all rows ``[V]``, or of a group of them; 64-bit, on the CPU."""
        return values.mean()


def metric_choice(name: str) -> MetricChoice:
    """The metric of that name."""
    return METRICS.load(name, MetricChoice)
