"""Disks and caches: what is free, and what is taken by what can be made again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from lora_foundry.config.schema import JobConfig
from lora_foundry.doctor.report import Place
from lora_foundry.launch.points.disks import nearest_existing

_COUNTING_S = 2.0  # a folder of a network disk may hold millions of files
_LITTLE = 2 * 2**30  # below it a larger sweep may not end: adapters, checkpoints, pictures, latents


def places_of(config: JobConfig, root: Path) -> tuple[Place, ...]:
    """Where a training writes and reads.

    Args:
        config: Of the training.
        root: Where sweeps lie.
    """
    runs = [_disk("sweeps", root)]
    if config.tracking.enabled:
        runs.append(_disk("runs", Path(config.tracking.root).expanduser()))
    return (*runs, _cache("latents and sizes", Path(config.data.cache_dir)), _cache("the hub's models", _hub()))


def tight(places: tuple[Place, ...]) -> list[str]:
    """A line for each disk with little space, and for a folder that was too large to count."""
    disks: dict[int, Place] = {}
    for place in places:
        if place.free is not None and place.free < _LITTLE:
            disks.setdefault(nearest_existing(Path(place.folder)).stat().st_dev, place)
    return [
        f"{place.folder}: {_gib(place.free or 0)} free, which a larger sweep's checkpoints and pictures may fill"
        for place in disks.values()
    ]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _disk(what: str, folder: Path) -> Place:
    return Place(what=what, folder=str(folder.absolute()), free=_free(folder.absolute()))


def _cache(what: str, folder: Path) -> Place:
    until, size = time.monotonic() + _COUNTING_S, 0
    for one in _sizes(folder):
        size += one
        if time.monotonic() > until:
            return Place(
                what=what, folder=str(folder.absolute()), free=_free(folder.absolute()), size=size, counted=False
            )
    return Place(what=what, folder=str(folder.absolute()), free=_free(folder.absolute()), size=size)


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes on the disk of each file below ``folder``; links count nothing, the hub's lead to its own files."""
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118
            except OSError:
                continue
            yield status.st_blocks * 512


def _free(folder: Path) -> int | None:
    try:
        status = os.statvfs(nearest_existing(folder))
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _hub() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
