"""Whether the folder that finished adapters are copied to can take them, asked before anything starts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from src.config.schema_results import ExportConfig


def copy_problems(export: ExportConfig) -> list[str]:
    """A line when ``export.copy_to`` is no folder that files can be written in; tried with one that is gone at once."""
    if export.copy_to is None:
        return []
    folder = Path(export.copy_to).absolute()
    if not folder.is_dir():
        what = "which is a file" if folder.exists() else "where there is nothing"
        return [
            f"export.copy_to: got {export.copy_to!r}, {what} ({folder}); allowed is a folder that is there, such as "
            "a web UI's models/Lora"
        ]
    try:
        with tempfile.TemporaryFile(dir=folder):
            return []
    except OSError as error:
        return [f"export.copy_to: {folder} cannot be written ({error.strerror}); give a folder that can"]
