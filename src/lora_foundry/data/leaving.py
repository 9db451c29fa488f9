"""Images that training leaves out (``data.without``): by their names, or by what their captions say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from lora_foundry.config.parse import nearest

TAG = "tag:"
"""``tag:red hair`` is every image whose caption has these words one after the other, in whatever letters."""
_SHOWN = 3


class Captioned(Protocol):
    """An image before or after it was read: a row, or a record."""

    @property
    def name(self) -> str:
        """Its path from the data folder on, parts joined by ``/``."""

    @property
    def caption(self) -> str:
        """What is said of it."""


def is_left_out(image: Captioned, patterns: Sequence[str]) -> bool:
    """Whether one of ``patterns`` means it: ``tag:`` and words, or a name in which ``*`` stands for any letters."""
    return any(_means(pattern, image) for pattern in patterns)


def unknown_patterns(patterns: Sequence[str], images: Sequence[Captioned]) -> list[str]:
    """What no image is meant by, a line each.

    Args:
        patterns: ``data.without``.
        images: All of ``data.path``, those that are held out of it among them.
    """
    names = [image.name for image in images]
    few = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return [
        f"data.without: got {pattern!r}, which none of the {len(names)} images of data.path is meant by; allowed are "
        f"names from there on ({few}), in which * stands for anything, and {TAG}words of a caption"
        f"{nearest(pattern, names)}"
        for pattern in patterns
        if not any(_means(pattern, image) for image in images)
    ]


def _means(pattern: str, image: Captioned) -> bool:
    if not pattern.startswith(TAG):
        return fnmatchcase(image.name, pattern)
    words = re.escape(" ".join(pattern.removeprefix(TAG).split()))
    return re.search(rf"(?<!\w){words}(?!\w)", " ".join(image.caption.split()), re.IGNORECASE) is not None
