"""What a person looks at when a sweep has ended."""

from __future__ import annotations

from lora_foundry.report.sweep import finish_sweep

__all__ = ["finish_sweep"]
