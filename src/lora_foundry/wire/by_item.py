"""A member's validation image by image, so that two members can be compared in pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lora_foundry.wire.fields import Loose


@dataclass(frozen=True, kw_only=True, slots=True)
class ByItem:
    """The validation loss of each item (an image; what an item is, the task says), over the base's mean of all.

    Attributes:
        step: Optimizer steps done.
        samples: Samples seen.
        rows: Digest of the rows that were judged: only equal ones are paired.
        items: The items' names.
        relative: Of each item; their mean is ``val/loss_rel``.
        base: The same of the base itself, whose mean is 1.
        called: What the task calls its items, in the plural; null of those that were told before tasks said so.
    """

    step: int
    samples: int
    rows: str
    items: tuple[str, ...]
    relative: tuple[float, ...]
    base: tuple[float, ...]
    called: Loose[str] = None

    @property
    def mean(self) -> float:
        """The loss over the base's own; nan of no items."""
        return sum(self.relative) / len(self.relative) if self.relative else math.nan
