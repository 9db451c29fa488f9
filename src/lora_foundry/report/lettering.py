"""A white sheet with text, cells and bars."""

from __future__ import annotations

from functools import cache
from typing import BinaryIO

from PIL import Image, ImageDraw, ImageFont

INK = "#1d2530"
FAINT = "#76808c"
ACCENT = "#12805c"
BAD = "#b3261e"
_LINE = "#d9dee4"
_EMPTY = "#f3f5f7"
_BAR_PX = 4
_LEADING = 1.2


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own TrueType face, so that the sheet looks the same everywhere."""
    face = ImageFont.load_default(size)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType; install the wheel from PyPI")
    return face


class Canvas:
    """The sheet."""

    def __init__(self, width: int, height: int) -> None:
        """``width`` x ``height`` pixels, white."""
        self._image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self._image)

    def save(self, file: BinaryIO) -> None:
        """Write as PNG."""
        self._image.save(file, format="PNG", optimize=True)

    def text(
        self, corner: tuple[int, int], text: str, face: ImageFont.FreeTypeFont, colour: str, width: int, *, lines: int
    ) -> int:
        """Write at most ``lines`` lines of at most ``width`` pixels below ``corner``; returns the y under the last."""
        x, y = corner
        for line in wrap(text, face, width, lines):
            self._draw.text((x, y), line, font=face, fill=colour)
            y += round(face.size * _LEADING)
        return y

    def paste(self, picture: Image.Image, corner: tuple[int, int], side: int) -> None:
        """Put ``picture`` in the middle of a framed cell."""
        x, y = corner
        self._frame(corner, side, "white")
        self._image.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
        self._draw.rectangle((x - 1, y - 1, x + side, y + side), outline=_LINE)

    def empty_cell(self, corner: tuple[int, int], side: int, words: str) -> None:
        """A cell without a picture, saying so."""
        self._frame(corner, side, _EMPTY)
        middle = (corner[0] + side // 2, corner[1] + side // 2)
        self._draw.text(middle, words, font=font(14), fill=FAINT, anchor="mm")

    def bar(self, corner: tuple[int, int], width: int, colour: str) -> None:
        """A thin bar."""
        x, y = corner
        self._draw.rectangle((x, y, x + width - 1, y + _BAR_PX - 1), fill=colour)

    def _frame(self, corner: tuple[int, int], side: int, ground: str) -> None:
        x, y = corner
        self._draw.rectangle((x - 1, y - 1, x + side, y + side), outline=_LINE, fill=ground)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """``text`` in at most ``lines`` lines of at most ``width`` pixels, broken at spaces and hyphens, else anywhere.

    What does not fit ends in an ellipsis.
    """
    rest = " ".join(text.split())
    wrapped: list[str] = []
    while rest and len(wrapped) < lines - 1:
        end = _fitting(rest, face, width)
        if end < len(rest):
            breaks = [place + 1 for place in range(end) if rest[place] in " -"]
            if rest[end] == " ":
                breaks.append(end)
            end = breaks[-1] if breaks else end
        wrapped.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest:
        end = _fitting(rest, face, width)
        if end < len(rest):
            rest = f"{rest[: _fitting(rest, face, width - round(face.getlength('…')))]}…"
        wrapped.append(rest)
    return wrapped


def _fitting(text: str, face: ImageFont.FreeTypeFont, width: int) -> int:
    end = len(text)
    while end > 1 and face.getlength(text[:end]) > width:
        end -= 1
    return end
