"""The sweep's page, written by the report's room, which the launch room does not import."""

from __future__ import annotations

from pathlib import Path


def write_report(sweep_dir: Path) -> Path:
    """``report.html`` of a sweep that has ended, though whoever ends it is still at it.

    Raises:
        SweepError: When its records cannot be read.
        OSError: When the folder cannot be written.
    """
    from lora_foundry.report.page import write_page
    from lora_foundry.wiring.told import told_of

    return write_page(sweep_dir, told_of(sweep_dir, ended=True))
