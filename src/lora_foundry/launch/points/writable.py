"""Whether a sweep can write where it is to write, asked before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

from lora_foundry.config.schema import TrackingConfig
from lora_foundry.launch.points.disks import no_space, unwritable

_NEW_DATABASE = 2 * 2**20  # bytes: MLflow's tables, and the log that sqlite writes beside them


def sweep_dir_problems(sweep_dir: Path) -> list[str]:
    """A line when ``sweep_dir`` can be neither made nor written."""
    why = unwritable(sweep_dir.absolute())
    return [] if why is None else [f"hydra.sweep.dir: {sweep_dir} cannot be written ({why}); give a folder that can"]


def store_problems(tracking: TrackingConfig) -> list[str]:
    """A line for each reason why runs cannot be recorded where ``tracking`` says; a server is not asked."""
    if not tracking.enabled:
        return []
    from lora_foundry.tracking.addresses import database_of, experiment_of, store_of
    from lora_foundry.tracking.checking import address_problems, database_problems, key_of

    problems = address_problems(tracking)
    if problems:
        return problems
    uri, root = store_of(tracking)
    database = database_of(uri)
    if database is None:
        return []
    why = _unusable(Path(root) if tracking.uri is None else database.parent, database)
    if why is not None:
        return [f"{key_of(tracking)}: {why}; give a place that can, or tracking=none to record nothing"]
    return [f"{key_of(tracking)}: {line}" for line in database_problems(database, experiment_of(tracking))]


def recorded_problems(sweep_dir: Path, tracking: TrackingConfig) -> list[str]:
    """The same for a sweep that goes on: its runs are where its ``tracking.json`` says, from whatever folder."""
    if not tracking.enabled:
        return []
    from lora_foundry.tracking.addresses import database_of
    from lora_foundry.tracking.checking import database_problems
    from lora_foundry.tracking.errors import TrackingError
    from lora_foundry.tracking.trackfile import open_track_file

    try:
        track = open_track_file(sweep_dir, tracking, "", "")
    except TrackingError as error:
        return [str(error)]
    database = database_of(track.uri)
    if database is None:
        return []
    why = _unusable(database.parent, database)
    return (
        [f"tracking: {why}"]
        if why is not None
        else [f"tracking: {line}" for line in database_problems(database, track.experiment)]
    )


def _unusable(folder: Path, database: Path) -> str | None:
    """Why a database cannot be written in ``folder``."""
    why = unwritable(folder)
    if why is not None:
        return f"{folder} cannot be written ({why})"
    if database.exists():
        return None if os.access(database, os.W_OK) else f"{database} cannot be written (read-only)"
    why = no_space(folder, _NEW_DATABASE)
    return None if why is None else f"{folder} cannot be written ({why} for a new database)"
