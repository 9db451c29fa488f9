"""From a file's bytes to an upright, opaque RGB image; what cannot become one says why. No torch here."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, ImageColor, ImageMath, ImageOps, UnidentifiedImageError

from lora_foundry.data.heic import NEEDED, can_read, is_heic

if can_read():
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
Image.init()  # registers every plugin of this build, which Image.open(formats=...) expects
# Named, because Pillow would otherwise hand a file called a.png to whatever plugin claims its bytes
# (EPS starts Ghostscript).
_FORMATS = tuple(
    name for name in ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP") if name in Image.OPEN
)
_WIDE = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_MODES = _WIDE | {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_WHITE_16 = 65535
_ORIENTATION = 0x0112  # EXIF tag
# What Pillow's decoders raise on damaged files, read in its plugins: UnidentifiedImageError is an OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)


class UnreadableImageError(ValueError):
    """An image that cannot be used; the message follows the file's name in a sentence."""


def background_rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a Pillow colour name or ``#rrggbb``.

    Raises:
        ValueError: When the colour is unknown or not opaque.
    """
    allowed = "allowed is a colour name (white), #rrggbb, rgb(r,g,b) or hsl(h,s%,l%), opaque"
    try:
        channels = ImageColor.getrgb(colour)
    except ValueError as error:
        raise ValueError(f"got {colour!r}, {allowed}") from error
    if len(channels) != 3:
        raise ValueError(f"got {colour!r} with an alpha channel, {allowed}")
    return channels


def inspect_image(content: bytes) -> tuple[int, int]:
    """Decode an image once to its last byte and return its size as stored (width, height).

    Raises:
        UnreadableImageError: When it is damaged, cut short, too large for Pillow's limit, or of an unusable kind.
    """
    with _open(content) as image:
        size = image.size
        try:
            image.draft(None, (1, 1))  # a JPEG's entropy code is read whole all the same, the pixels are not made
            image.load()
            image.getexif().get(_ORIENTATION)
        except _DAMAGE as error:
            raise UnreadableImageError(f"cannot be decoded ({error}); replace the file") from error
        _check_range(image)
    return size


def read_image(content: bytes, background: tuple[int, int, int]) -> Image.Image:
    """Decode to RGB, turned upright by EXIF, transparency composed on ``background``.

    16-bit grey is scaled to 8 bit by 255/65535 (Pillow's own conversion would clip at 255).

    Raises:
        UnreadableImageError: As :func:`inspect_image`.
    """
    with _open(content) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
        except _DAMAGE as error:
            raise UnreadableImageError(f"cannot be decoded ({error}); replace the file") from error
        _check_range(upright)
        if upright.mode in _WIDE:
            upright = _from_16_bit(upright)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    opaque = Image.new("RGBA", upright.size, (*background, 255))
    opaque.alpha_composite(upright.convert("RGBA"))
    return opaque.convert("RGB")


def _open(content: bytes) -> Image.Image:
    """Open lazily, within Pillow's pixel limit at the level where it would only warn."""
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(_too_large(str(error))) from error
    except UnidentifiedImageError as error:
        if is_heic(content) and not can_read():
            raise UnreadableImageError(f"is an HEIC image. {NEEDED}") from error
        raise UnreadableImageError(f"is no image, allowed are {', '.join(_FORMATS)}; replace the file") from error
    except _DAMAGE as error:
        raise UnreadableImageError(f"cannot be opened ({error}); replace the file") from error
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise UnreadableImageError(_too_large(f"{width} x {height} pixels"))
    if width < 1 or height < 1:
        raise UnreadableImageError(f"has no pixels ({width} x {height}); replace the file")
    if image.mode not in _MODES:
        raise UnreadableImageError(f"has pixels of kind {image.mode}, allowed are 8 and 16 bit; save it as 8-bit RGB")
    return image


def _too_large(got: str) -> str:
    return f"exceeds Pillow's limit of {Image.MAX_IMAGE_PIXELS} pixels ({got}); make it smaller"


def _check_range(image: Image.Image) -> None:
    """Mode I is 32 bits wide, but only 16-bit greys have a known white."""
    if image.mode != "I":
        return
    low, high = image.getextrema()
    if not 0 <= int(str(low)) <= int(str(high)) <= _WHITE_16:
        raise UnreadableImageError(
            f"has grey values from {low} to {high}, allowed is 0 to {_WHITE_16}; save it as 8 or 16 bit"
        )


def _from_16_bit(image: Image.Image) -> Image.Image:
    wide = image.convert("I")
    grey = wide.point(lambda value: value * (255 / _WHITE_16) + 0.5).convert("L")
    clear = image.info.get("transparency")
    if clear is None:
        return grey
    seen = ImageMath.lambda_eval(lambda args: args["grey"] != clear, grey=wide)
    return Image.merge("LA", (grey, seen.point(lambda value: value * 255).convert("L")))
