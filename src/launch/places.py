"""Whether a sweep can write where it is to write, asked before anything starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from src.config.schema import JobConfig, TrackingConfig


def sweep_dir_problems(sweep_dir: Path) -> list[str]:
    """A line when ``sweep_dir`` can be neither made nor written."""
    why = _unwritable(sweep_dir.absolute())
    return [] if why is None else [f"hydra.sweep.dir: {sweep_dir} cannot be written ({why}); give a folder that can"]


def store_problems(tracking: TrackingConfig) -> list[str]:
    """A line when the runs cannot be recorded where ``tracking`` says; a server is not asked."""
    if not tracking.enabled:
        return []
    from src.tracking.errors import TrackingError  # noqa: PLC0415 - needed at launch only
    from src.tracking.trackfile import SQLITE, store_of  # noqa: PLC0415 - needed at launch only

    try:
        uri, root = store_of(tracking)
    except TrackingError as error:
        return [str(error)]
    if not uri.startswith(SQLITE):
        return []
    database = Path(uri.removeprefix(SQLITE))
    key, folder = ("tracking.root", Path(root)) if tracking.uri is None else ("tracking.uri", database.parent)
    why = _unwritable(folder)
    if why is None and database.exists() and not os.access(database, os.W_OK):
        folder, why = database, "read-only"
    advice = "give a place that can, or tracking=none to record nothing"
    return [] if why is None else [f"{key}: {folder} cannot be written ({why}); {advice}"]


def cache_problems(configs: Iterable[JobConfig]) -> list[str]:
    """A line for each cache of latents and text states that is not there and cannot be made.

    One that is there may hold all that is needed, and may be somebody else's.
    """
    folders = {config.data.cache_dir: Path(config.data.cache_dir).expanduser() for config in configs}
    missing = {name: _unwritable(folder.absolute()) for name, folder in folders.items() if not folder.is_dir()}
    advice = "give a folder that can"
    return [f"data.cache_dir: {name} cannot be written ({why}); {advice}" for name, why in missing.items() if why]


def _unwritable(folder: Path) -> str | None:
    """Why nothing can be written below ``folder``, which need not exist; tried with a file that is gone at once."""
    place = folder
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        return f"{place} is a file" if place.exists() else f"{place} is a link to nowhere"
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return error.strerror or str(error)
