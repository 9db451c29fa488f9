"""MLflow: a sweep's spool becomes runs, by one writer, each event exactly once."""

from __future__ import annotations

from lora_foundry.tracking.errors import TrackingError
from lora_foundry.tracking.records import JobRecord
from lora_foundry.tracking.writer import SweepWriter

__all__ = ["JobRecord", "SweepWriter", "TrackingError"]
