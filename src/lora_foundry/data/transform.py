"""How an image becomes a square: the settings as values, the crop's place, the variants. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from lora_foundry.config.schema import DataConfig
from lora_foundry.config.streams import stream_key
from lora_foundry.data.decode import background_rgb

_VERSION = 1  # raised when equal settings begin to give other pixels, so that old cache entries are not used
_PLACE_SEED = 0  # places belong to the image, not to a job: all jobs of a sweep share the cache
_KEYS = 2**63


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One of the ways in which an image is seen.

    Attributes:
        flip: Mirrored left to right.
        crop: Which of the ``crop_variants`` places; 0 where ``crop`` is not ``random``.
    """

    flip: bool
    crop: int


def variants(data: DataConfig) -> tuple[Variant, ...]:
    """Every variant a sample can be drawn as; entry ``crop * 2 + flip`` with flips, ``crop`` without."""
    crops = data.crop_variants if data.crop == "random" else 1
    flips = (False, True) if data.flip else (False,)
    return tuple(Variant(flip=flip, crop=crop) for crop in range(crops) for flip in flips)


def transform_settings(data: DataConfig) -> dict[str, object]:
    """What decides an image's pixels besides its bytes and its variant, as plain JSON values.

    Raises:
        ValueError: When the background is no opaque colour.
    """
    return {
        "version": _VERSION,
        "resolution": data.resolution,
        "crop": data.crop,
        "background": list(background_rgb(data.background)),
    }


def crop_box(size: tuple[int, int], data: DataConfig, crop: int, digest: str) -> tuple[float, float, float, float]:
    """The part of the source that fills the square: left, top, right, bottom in source pixels.

    Cutting in the source instead of after the resize gives the same square and keeps an image of
    10000 x 10 pixels from becoming an enormous one on the way.
    """
    width, height = size
    if data.crop == "none":
        return (0.0, 0.0, float(width), float(height))
    side = min(width, height)
    across = down = 0.5
    if data.crop == "random":
        across = stream_key(_PLACE_SEED, "crop-place", digest, crop, "across") / _KEYS
        down = stream_key(_PLACE_SEED, "crop-place", digest, crop, "down") / _KEYS
    left, top = (width - side) * across, (height - side) * down
    return (left, top, left + side, top + side)


def square(image: Image.Image, data: DataConfig, variant: Variant, digest: str) -> Image.Image:
    """``image`` as a ``resolution`` x ``resolution`` square: cropped, resized (Lanczos, antialiased), mirrored."""
    box = crop_box(image.size, data, variant.crop, digest)
    sized = image.resize((data.resolution, data.resolution), Image.Resampling.LANCZOS, box=box)
    return ImageOps.mirror(sized) if variant.flip else sized
