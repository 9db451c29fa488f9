"""Whether the folder that finished adapters are copied to can take them, asked before anything starts."""

from __future__ import annotations

from pathlib import Path

from lora_foundry.config.schema_results import ExportConfig
from lora_foundry.launch.points.disks import too_long, unwritable


def copy_problems(export: ExportConfig, start: Path | None = None) -> list[str]:
    """A line when ``export.copy_to`` is no folder that adapters can be written in.

    Args:
        export: Where they are copied to.
        start: Folder that a relative path starts from; None is the working folder.
    """
    if export.copy_to is None:
        return []
    folder = ((start or Path.cwd()) / export.copy_to).absolute()
    why = too_long(folder, for_job=True)
    if why is None and not folder.is_dir():
        what = "which is a file" if folder.exists() else "where there is nothing"
        return [
            f"export.copy_to: got {export.copy_to!r}, {what} ({folder}); allowed is a folder that is there, such as "
            "a web UI's models/Lora"
        ]
    why = why or unwritable(folder)
    return [] if why is None else [f"export.copy_to: {folder} cannot be written ({why}); give a folder that can"]
