"""The sweep's picture, drawn by the report's room, which the launch room does not import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_foundry.wire.outcomes import JobOutcome


def draw_picture(sweep_dir: Path, outcomes: list[JobOutcome]) -> Path | None:
    """``comparison.png`` of the finished jobs; none when there is nothing to show."""
    if not any(outcome.state == "FINISHED" for outcome in outcomes):
        return None
    from lora_foundry.report import finish_sweep

    return finish_sweep(sweep_dir, outcomes)
