"""``report.html``: a whole sweep in one file that needs nothing else."""

from __future__ import annotations

from lora_foundry.report.page.writing import write_page

__all__ = ["write_page"]
