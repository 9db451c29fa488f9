"""What a disk can take: names that are not too long, and files while there is space."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lora_foundry.launch.points.names import LONGEST_NAME

# Of a job, below its folder: the file with the longest name while it is being written, in the deepest folder.
_LONGEST_FILE = len(".") + LONGEST_NAME + len("-step00000100.diffusers.safetensors") + len(".abcdefgh.tmp")
_DEEPEST = len("/adapter/diffusers/steps/")
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written below ``folder``, which need not exist; tried with a file that is gone at once."""
    place = nearest_existing(folder)
    if not place.is_dir():
        return f"{place} is a file" if place.exists() else f"{place} is a link to nowhere"
    why = too_long(folder)
    if why is not None:
        return why
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror or str(error)


def too_long(folder: Path, *, for_job: bool = False) -> str | None:
    """Why the disk cannot hold the path of ``folder``.

    Args:
        folder: Absolute; it need not exist.
        for_job: Whether adapters are to be written below it.
    """
    place = nearest_existing(folder)
    longest_name, longest_path = _limits(place)
    for name in folder.relative_to(place).parts:
        size = len(os.fsencode(name))
        if size > longest_name:
            return f"the name {name[:20]}... has {size} bytes, this disk allows {longest_name}"
    if for_job and longest_name < _LONGEST_FILE:
        return f"an adapter's files have names of up to {_LONGEST_FILE} bytes, this disk allows {longest_name}"
    size = len(os.fsencode(folder)) + (_DEEPEST + _LONGEST_FILE if for_job else 0)
    if size >= longest_path:
        files = ", with the files of an adapter below it," if for_job else ""
        return f"the path{files} has {size} bytes, allowed is less than {longest_path}"
    return None


def no_space(folder: Path, least: int) -> str | None:
    """Why ``least`` bytes do not fit on the disk of ``folder``, which need not exist."""
    place = nearest_existing(folder)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    return f"{in_units(free)} free, at least {in_units(least)} needed" if free < least else None


def in_units(count: int) -> str:
    """``1.5 GiB``."""
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    return place


def _limits(place: Path) -> tuple[int, int]:
    """Most bytes of a name, and of a path with its closing zero."""
    there = place if place.exists() else place.parent
    return os.pathconf(there, "PC_NAME_MAX"), os.pathconf(there, "PC_PATH_MAX")
