"""The files of an adapter for Stable Diffusion: what people's programs read, what code reads, and a card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_foundry.lora.formats.diffusers_file import write_diffusers
from lora_foundry.lora.formats.kohya import write_kohya
from lora_foundry.lora.formats.sidecar import write_sidecar
from lora_foundry.tasks.protocol import Files

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from lora_foundry.lora.formats.adapter import Adapter
    from lora_foundry.lora.formats.metadata import FileMetadata

DIFFUSERS_FOLDER = "diffusers"
"""Folder for code's file beside people's: there, web UIs and ComfyUI would list it and apply none or half of it."""


def write_files(folder: Path, stem: str, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> Files:
    """Write ``<stem>.safetensors`` (kohya), ``diffusers/<stem>.safetensors`` and ``<stem>.json``.

    Raises:
        ExportError: When a value does not fit ``dtype``, or readers do not know a layer or the base.
        OSError: When the disk is full or the folder cannot be written.
    """
    kohya, diffusers = folder / f"{stem}.safetensors", folder / DIFFUSERS_FOLDER / f"{stem}.safetensors"
    write_kohya(kohya, adapter, meta, dtype)
    write_diffusers(diffusers, adapter, meta, dtype)
    (folder / f"{stem}.diffusers.safetensors").unlink(missing_ok=True)  # of an earlier version's export of this job
    card = folder / f"{stem}.json"
    write_sidecar(card, meta)
    return Files(file=kohya, for_code=diffusers, card=card)
