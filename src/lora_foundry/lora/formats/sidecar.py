"""``<name>.json`` beside an adapter: what the web UI shows and fills in when the adapter is clicked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lora_foundry.config.files import write_atomic
from lora_foundry.lora.formats.adapter import ExportError
from lora_foundry.lora.formats.metadata import webui_version

if TYPE_CHECKING:
    from pathlib import Path

    from lora_foundry.lora.formats.metadata import FileMetadata


def write_sidecar(path: Path, meta: FileMetadata) -> None:
    """Write the web UI's user metadata of ``<name>.safetensors`` to ``<name>.json``, atomically.

    Raises:
        ExportError: When ``path`` does not end in ``.json`` or the base's version is unknown.
        OSError: When the file cannot be written.
    """
    if path.suffix != ".json":
        raise ExportError(f"{path}: allowed is the adapter's name with .json, beside the adapter")
    shown = {
        "description": meta.description,
        "sd version": webui_version(meta),
        "activation text": meta.trigger_phrase,
        "preferred weight": meta.preferred_weight,
        "notes": meta.notes,
    }
    write_atomic(path, json.dumps(shown, indent=4, ensure_ascii=False) + "\n")
