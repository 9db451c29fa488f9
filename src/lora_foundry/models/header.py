"""The header of a base's safetensors file, refused as a base's fault."""

from __future__ import annotations

from pathlib import Path

from lora_foundry.config.tensorfile import TensorFileError, TensorHeader, read_tensor_header
from lora_foundry.models.protocol import BaseError


def read_header(path: Path) -> TensorHeader:
    """As :func:`lora_foundry.config.tensorfile.read_tensor_header`.

    Raises:
        BaseError: When it is no safetensors file, or shorter than its header says.
    """
    try:
        return read_tensor_header(path)
    except TensorFileError as error:
        raise BaseError(str(error)) from error
