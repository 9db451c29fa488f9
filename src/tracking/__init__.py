"""MLflow: a sweep's spool becomes runs, by one writer, each event exactly once."""

from __future__ import annotations

from src.tracking.errors import TrackingError
from src.tracking.records import JobRecord
from src.tracking.writer import SweepWriter

__all__ = ["JobRecord", "SweepWriter", "TrackingError"]
