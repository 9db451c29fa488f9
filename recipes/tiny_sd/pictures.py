"""Read the drawings as RGBA arrays, compose them on a colour, and save small PNGs."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
WHITE = (255, 255, 255)

Floats = NDArray[np.float32]


def read_rgba(path: Path) -> Floats:
    """Return a drawing as `[64, 64, 4]`, values 0 to 1, alpha not premultiplied."""
    with Image.open(path) as image:
        picture = image.convert("RGBA")
        if picture.size != (SIZE, SIZE):
            picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        return np.asarray(picture, dtype=np.float32) / 255.0


def compose(rgba: Floats, background: tuple[int, int, int] = WHITE) -> Floats:
    """Lay an RGBA drawing on a plain background.

    Args:
        rgba: `[64, 64, 4]`, values 0 to 1.
        background: Red, green, blue, 0 to 255.

    Returns:
        `[64, 64, 3]`, values 0 to 1.
    """
    alpha = rgba[..., 3:]
    return rgba[..., :3] * alpha + np.asarray(background, dtype=np.float32) / 255.0 * (1.0 - alpha)


def to_image(rgb: Floats) -> Image.Image:
    """Return a Pillow image of an `[H, W, 3]` array with values 0 to 1."""
    return Image.fromarray((rgb.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), mode="RGB")


def save_png(image: Image.Image, path: Path, colours: int = 256) -> None:
    """Save a PNG with a palette of at most `colours`, which at 64 pixels loses nothing to the eye."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
