"""Which adapter is best: the one rule, for the table, the picture, ``best.json``, the status and searches.

By the validation loss over the base's own on the same rows, noise and timesteps: losses alone cannot be compared where
the base, its objective or the data differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

MEASURE = "val_loss_rel"
"""The key of a job's summary that adapters are compared by; the lowest is best."""

Key = TypeVar("Key")


def score(summary: Mapping[str, Any] | None) -> float | None:
    """What is compared of a job's summary; None where it has no finite number."""
    value = (summary or {}).get(MEASURE)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def best(summaries: Mapping[Key, Mapping[str, Any] | None]) -> Key | None:
    """The key of the best; of equals the first, and None where none can be compared."""
    scores = {key: known for key, summary in summaries.items() if (known := score(summary)) is not None}
    return min(scores, key=lambda key: scores[key], default=None)
