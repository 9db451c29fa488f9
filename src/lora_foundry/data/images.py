"""Images as tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.decode import UnreadableImageError, background_rgb, read_image
from lora_foundry.data.records import DataError
from lora_foundry.data.transform import Variant, square, variants

__all__ = ["Variant", "load_pixels", "variants"]


def load_pixels(path: Path, data: DataConfig, variant: Variant, *, digest: str | None = None) -> Tensor:
    """One variant of an image.

    Args:
        path: The image.
        data: Resolution, crop and background.
        variant: Flip and crop.
        digest: What the file's sha256 must be, where it is known from the checks.

    Returns:
        ``[3, S, S]`` fp32 in [-1, 1], RGB, with S = ``data.resolution``.

    Raises:
        DataError: When the file cannot be read as an image, or is not the one that was checked.
    """
    try:
        content = path.read_bytes()
        image = read_image(content, background_rgb(data.background))
    except OSError as error:
        raise DataError([f"{path}: cannot be read ({error.strerror}); put it back"]) from error
    except UnreadableImageError as error:
        raise DataError([f"{path}: {error}"]) from error
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise DataError([f"{path}: was changed after the data was checked; start again"])
    return _to_tensor(square(image, data, variant, found))


def _to_tensor(image: Image.Image) -> Tensor:
    width, height = image.size
    rows = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, 3)
    return rows.permute(2, 0, 1).contiguous().to(torch.float32) / 127.5 - 1.0
