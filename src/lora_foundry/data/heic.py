"""Photos as iPhones store them, which an extra package reads; asking for it imports no image library."""

from __future__ import annotations

from importlib.util import find_spec

SUFFIXES = frozenset({".heic", ".heif", ".hif"})
NEEDED = "HEIC is read with pillow-heif, which is not installed: pip install pillow-heif, or save the images as JPEG"
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def can_read() -> bool:
    """Whether pillow-heif is installed (the extra ``heic``)."""
    return find_spec("pillow_heif") is not None


def is_heic(content: bytes) -> bool:
    """Whether bytes begin as a HEIC file does, whatever it is called."""
    return content[4:8] == b"ftyp" and content[8:12] in _BRANDS
