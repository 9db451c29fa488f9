"""The header of a safetensors file: what is in it, without reading it (and without torch)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from src.models.protocol import BaseError

LENGTH_BYTES = 8
LARGEST_HEADER = 100_000_000  # the format's own limit


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Names, types, shapes and places of all tensors.

    Args:
        path: A ``.safetensors`` file.

    Returns:
        Tensor name to ``{"dtype", "shape", "data_offsets"}``, and the byte at which the data begins.

    Raises:
        BaseError: When it is no safetensors file, or shorter than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        text = file.read(length) if length <= min(size, LARGEST_HEADER) else b""
    if text.startswith(b"{"):
        try:
            header: dict[str, Any] = json.loads(text)
            header.pop("__metadata__", None)
            end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (ValueError, KeyError, TypeError):
            pass  # said below
        else:
            wanted = LENGTH_BYTES + length + end
            if size >= wanted:
                return header, LENGTH_BYTES + length
            msg = f"{path}: cut short, {size} of {wanted} bytes; copy or download it again"
            raise BaseError(msg)
    pointer = size < 1024 and path.read_bytes().startswith(b"version https://git-lfs")
    hint = "a Git LFS pointer: fetch the file itself with `git lfs pull`" if pointer else "copy or download it again"
    msg = f"{path}: no safetensors file; {hint}"
    raise BaseError(msg)
