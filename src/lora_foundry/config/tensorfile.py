"""The header of a safetensors file: what is in it, without reading the tensors (and without torch)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTH_BYTES = 8
LARGEST_HEADER = 100_000_000  # the format's own limit
_POINTER_BYTES = 1024


class TensorFileError(ValueError):
    """No intact safetensors file; the message says what it is instead, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorHeader:
    """What a safetensors file says of itself.

    Attributes:
        tensors: Tensor name to ``{"dtype", "shape", "data_offsets"}``, offsets counted from ``data``.
        metadata: The texts beside them.
        data: The byte at which the data begins.
    """

    tensors: dict[str, dict[str, Any]]
    metadata: dict[str, str]
    data: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by its name."""
        return {name: tuple(entry["shape"]) for name, entry in self.tensors.items()}


def read_tensor_header(path: Path) -> TensorHeader:
    """Names, types, shapes and places of all tensors of ``path``.

    Raises:
        TensorFileError: When it is no safetensors file, or shorter than its header says.
        OSError: When it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        text = file.read(length) if length <= min(size, LARGEST_HEADER) else b""
    if text.startswith(b"{"):
        try:
            tensors: dict[str, dict[str, Any]] = json.loads(text)
            metadata: dict[str, Any] = tensors.pop("__metadata__", {})
            end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
            header = TensorHeader(tensors=tensors, metadata=dict(metadata), data=LENGTH_BYTES + length)
            header.shapes()
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # said below
        else:
            if size >= header.data + end:
                return header
            msg = f"{path}: cut short, {size} of {header.data + end} bytes; copy or download it again"
            raise TensorFileError(msg)
    pointer = size < _POINTER_BYTES and path.read_bytes().startswith(b"version https://git-lfs")
    hint = "a Git LFS pointer: fetch the file itself with `git lfs pull`" if pointer else "copy or download it again"
    msg = f"{path}: no safetensors file; {hint}"
    raise TensorFileError(msg)
