"""Folders named as kohya's trainers want them: ``10_anna woman`` is ten repeats of images of *anna woman*."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from lora_foundry.config.warned import Warned
from lora_foundry.data.records import Row

_NAME = re.compile(r"([1-9][0-9]{0,2})_(.*)")  # 2023_trip and 02_trip are dates and counters, not repeats
_LIKE = re.compile(r"[0-9]+_.*")
_SHOWN = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """What a folder's name says.

    Attributes:
        name: The name.
        repeats: How often an image in it counts.
        words: The caption of an image without one; may be empty.
    """

    name: str
    repeats: int
    words: str


def folder_of(root: str, image: PurePath) -> Folder | None:
    """The nearest folder above an image whose name has repeats.

    Args:
        root: Name of the data folder itself, which counts too.
        image: Path from the data folder on.
    """
    for name in (*reversed(image.parent.parts), root):
        found = _NAME.fullmatch(name)
        if found:
            return Folder(name=name, repeats=int(found[1]), words=as_words(found[2]))
    return None


def as_words(name: str) -> str:
    """A file's or folder's name as a caption: underscores are blanks."""
    return " ".join(name.replace("_", " ").split())


def repeats_told(key: str, root: str, rows: Sequence[Row]) -> list[Warned]:
    """How often the images of which folders count, and which numbers were not taken as repeats.

    Args:
        key: Of the configuration, for messages.
        root: Name of the data folder.
        rows: Those that are trained on, repeats counted.
    """
    counts: dict[Folder, int] = {}
    other: set[str] = set()
    for row in rows:
        folder = folder_of(root, PurePath(row.name))
        if folder is not None:
            counts[folder] = counts.get(folder, 0) + 1
        parts = (*PurePath(row.name).parent.parts, root)
        other.update(part for part in parts if _LIKE.fullmatch(part) and not _NAME.fullmatch(part))
    told = []
    if any(folder.repeats > 1 for folder in counts):
        each = _few([f"{folder.name}: {count} x {folder.repeats}" for folder, count in counts.items()])
        text = f"{key}: images count as often as their folder's name says ({each}); data.repeats=none counts each once"
        told.append(Warned(topic="repeats", text=text))
    if other:
        text = f"{key}: a number before _ is taken as repeats from 1 to 999; not in {_few(sorted(other))}"
        told.append(Warned(topic="repeats", text=text))
    return told


def _few(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
