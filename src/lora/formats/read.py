"""Reading an adapter file of either image format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.lora.formats import diffusers_file, kohya
from src.lora.formats.adapter import Adapter, AdapterFileError, listing
from src.lora.formats.container import unpack

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def read_adapter(path: Path, module_names: Collection[str] | None = None) -> Adapter:
    """Read ``path``, in kohya's or diffusers' format, as it is: dtypes are kept, a missing alpha means scale 1.

    Args:
        path: A ``.safetensors`` file.
        module_names: Dotted names of the live UNet's modules, to resolve kohya's underscores and to refuse
            modules it does not have; None takes the grammar of diffusers' names alone.

    Raises:
        FileNotFoundError: When there is no such file.
        AdapterFileError: With everything that is wrong with the file at once.
    """
    return read_with_format(path, module_names)[0]


def read_with_format(path: Path, module_names: Collection[str] | None = None) -> tuple[Adapter, bool]:
    """:func:`read_adapter`, and whether the file is in kohya's format."""
    tensors, metadata = unpack(path)
    if tensors and all(key.startswith(tuple(kohya.PREFIXES)) for key in tensors):
        return kohya.parse_kohya(path, tensors, module_names), True
    if tensors and all(key.startswith(tuple(diffusers_file.PREFIXES)) for key in tensors):
        return diffusers_file.parse_diffusers(path, tensors, metadata, module_names), False
    known = (*kohya.PREFIXES, *diffusers_file.PREFIXES)
    strange = [key for key in sorted(tensors) if not key.startswith(known)]
    allowed = (
        f"every key begins with one of {' '.join(kohya.PREFIXES)} or with one of {' '.join(diffusers_file.PREFIXES)}"
    )
    raise AdapterFileError(
        listing(
            f"{path}: no image adapter; allowed is a file where {allowed}; got",
            strange or sorted(tensors) or ["no keys"],
        )
    )
