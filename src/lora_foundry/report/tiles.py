"""Pictures as the cells of a grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

_SMALL_PX = 96
_ENLARGED = 3
_SMALLEST_CELL, _LARGEST_CELL = 64, 288


def cell_side(paths: Iterable[Path], *, most: int) -> int:
    """Pixels of a cell's side: small pictures three times their size, large ones reduced, never over ``most``."""
    largest = 0
    for path in paths:
        try:
            with Image.open(path) as picture:
                largest = max(largest, *picture.size)
        except (FileNotFoundError, UnidentifiedImageError):
            continue
    side = largest * _ENLARGED if largest <= _SMALL_PX else largest
    return max(_SMALLEST_CELL, min(side or 2 * _SMALL_PX, _LARGEST_CELL, most))


def tile(path: Path, side: int) -> Image.Image | None:
    """The picture on white, fitted into ``side`` x ``side``; null when there is no readable one at ``path``."""
    picture = opened(path)
    return None if picture is None else fitted(picture, side)


def opened(path: Path) -> Image.Image | None:
    """The picture on white; null when there is no readable one at ``path``.

    Raises:
        OSError: Where it is the disk that cannot read it.
    """
    try:
        with Image.open(path) as found:
            picture = found.convert("RGBA")
    except (FileNotFoundError, UnidentifiedImageError, SyntaxError):
        return None
    except OSError as error:
        # Pillow's word for a file that ends too early; other errors of the disk are the caller's.
        if error.errno is not None:
            raise
        return None
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture so that its larger side has ``side`` pixels."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
