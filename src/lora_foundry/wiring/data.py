"""What changed in a job's data, as the data room sees it, which the launch room does not import."""

from __future__ import annotations

from pathlib import Path


def data_changes(inventory: Path, start: Path) -> list[str] | None:
    """Implements :data:`lora_foundry.launch.records.unchanged.DataCheck`."""
    from lora_foundry.data.inventory import changed_since

    return changed_since(inventory, start)
