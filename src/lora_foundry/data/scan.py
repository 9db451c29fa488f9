"""What lies in a folder of images, by kind; no file is opened."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
    | {".heic", ".heif", ".hif"}
)
CAPTION_SUFFIXES = (".txt", ".caption")  # the first goes first where an image has both
# Pictures, films and captions that people have beside the images and that are not read.
_OTHER_PICTURES = frozenset(
    {".apng", ".arw", ".cr2", ".cr3", ".dib", ".dng", ".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jpe", ".jxl", ".nef"}
    | {".orf", ".pbm", ".pnm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga", ".mov", ".mp4", ".webm"}
)
_OTHER_CAPTIONS = frozenset({".cap", ".json", ".md", ".prompt", ".tag", ".tags", ".text", ".toml", ".yaml", ".yml"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """The files of a folder and of those below it, hidden ones left out; paths begin with ``root``.

    Attributes:
        root: The folder, links followed.
        label: The folder as the configuration has it, for messages.
        files: All of them, sorted.
        images: Those that are images.
        texts: Caption files by their path without the suffix, in the order in which they are taken.
        tables: Caption tables by name, whatever the case of its letters, sorted.
        lists: Other files of the endings that tables have, directly in the folder.
        other_pictures: Pictures of kinds that are not read.
        other_captions: Files beside images that may hold captions and are not read.
        linked: Links to folders that were not followed.
    """

    root: Path
    label: Path
    files: tuple[Path, ...]
    images: tuple[Path, ...]
    texts: Mapping[Path, tuple[Path, ...]]
    tables: tuple[Path, ...]
    lists: tuple[Path, ...]
    other_pictures: tuple[Path, ...]
    other_captions: tuple[Path, ...]
    linked: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.label.absolute().name

    def shown(self, path: Path) -> str:
        """A path below the root as the user would write it."""
        return str(self.label / path.relative_to(self.root))

    def captions_of(self, image: Path) -> tuple[Path, ...]:
        """The caption files of an image, the one that is taken first: ``a.png.txt``, then ``a.txt``."""
        return (*self.texts.get(image, ()), *self.texts.get(image.with_suffix(""), ()))


def scan(folder: Path, *, follow_links: bool, tables: Collection[str]) -> Scan:
    """Look through an existing folder.

    Args:
        folder: It may itself be a link.
        follow_links: Whether linked folders are looked through too, each once.
        tables: What caption tables are called, in small letters.
    """
    root = real(folder)
    linked: list[Path] = []
    files: list[Path] = []
    for place, folders, names in _walk(root, follow_links=follow_links):
        linked.extend(place / name for name in folders if not follow_links and (place / name).is_symlink())
        files.extend(place / name for name in names if not name.startswith("."))
    files.sort()
    images = tuple(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
    stems = {path.with_suffix("") for path in images} | set(images)
    endings = {Path(name).suffix for name in tables}
    listing = tuple(path for path in files if path.suffix.lower() in endings)
    named = tuple(path for path in listing if path.name.lower() in tables)
    return Scan(
        root=root,
        label=folder,
        files=tuple(files),
        images=images,
        texts=_texts(files),
        tables=named,
        lists=tuple(path for path in listing if path.parent == root and path not in named),
        other_pictures=tuple(path for path in files if path.suffix.lower() in _OTHER_PICTURES),
        other_captions=tuple(p for p in files if p.suffix.lower() in _OTHER_CAPTIONS and p.with_suffix("") in stems),
        linked=tuple(sorted(linked)),
    )


def real(path: Path) -> Path:
    """The absolute path behind all links; unlike Path.resolve it does not raise on a loop of links."""
    return Path(os.path.realpath(path))


def few(paths: Sequence[Path]) -> str:
    """The first names; the rest is counted."""
    shown = 3
    more = len(paths) - shown
    return ", ".join(path.name for path in paths[:shown]) + (f" and {more} more" if more > 0 else "")


def _walk(root: Path, *, follow_links: bool) -> Iterator[tuple[Path, list[str], list[str]]]:
    seen = {root}
    for place, folders, names in os.walk(root, followlinks=follow_links):
        folders[:] = [name for name in sorted(folders) if not name.startswith(".")]
        if follow_links:
            folders[:] = [name for name in folders if _is_new(real(Path(place, name)), seen)]
        yield Path(place), folders, names


def _is_new(folder: Path, seen: set[Path]) -> bool:
    known = folder in seen
    seen.add(folder)
    return not known


def _texts(files: list[Path]) -> dict[Path, tuple[Path, ...]]:
    found: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in CAPTION_SUFFIXES:
            found.setdefault(path.with_suffix(""), []).append(path)
    return {stem: tuple(sorted(paths, key=_rank)) for stem, paths in found.items()}


def _rank(path: Path) -> tuple[int, bool, str]:
    suffix = path.suffix.lower()
    return CAPTION_SUFFIXES.index(suffix), suffix != path.suffix, path.name
