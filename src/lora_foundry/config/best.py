"""Which adapter is best: the one rule, for the table, the picture, ``best.json``, the status and searches.

By the validation loss over the base's own on the same rows, noise and timesteps: losses alone cannot be compared where
the base, its objective or the data differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def score(relative_loss: object) -> float | None:
    """What is compared of an adapter; None where its relative loss is no finite number."""
    if isinstance(relative_loss, bool) or not isinstance(relative_loss, (int, float)):
        return None
    return float(relative_loss) if math.isfinite(relative_loss) else None


def best(relative_losses: Mapping[Key, object]) -> Key | None:
    """The key of the lowest; of equals the first, and None where none can be compared."""
    scores = {key: known for key, told in relative_losses.items() if (known := score(told)) is not None}
    return min(scores, key=lambda key: scores[key], default=None)
