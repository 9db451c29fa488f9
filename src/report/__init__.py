"""What a person looks at when a sweep has ended."""

from __future__ import annotations

from src.report.results import JobResult
from src.report.sweep import finish_sweep

__all__ = ["JobResult", "finish_sweep"]
