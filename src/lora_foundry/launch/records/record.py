"""``sweep.json``, the record of a sweep in its folder: how it is read, and where sweeps are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_foundry.config.errors import SweepError, check_format
from lora_foundry.config.stored import (
    StoredError,
    has,
    is_number,
    is_text,
    is_whole,
    list_of,
    mapping_to,
    or_null,
    read_json,
)

SWEEP_FILE = "sweep.json"
HYDRA_FOLDER = ".hydra"
_MARKS = (SWEEP_FILE, "journal.jsonl")
_OWN = ("spool", "packs", "data")  # folders of a sweep that hold no other
_ADVICE = "restore it to go on with the sweep, or train anew (finished adapters lie in the jobs' folders)"
_JOB = {
    "job": is_whole,
    "name": is_text,
    "dir": is_text,
    "rank": is_whole,
    "pack": is_text,
    "overrides": mapping_to(is_text),
    "config": or_null(is_text),
    "warnings": or_null(mapping_to(is_text)),
}
_RECORD = {
    "id": is_text,
    "command": is_text,
    "created": is_number,
    "cwd": or_null(is_text),
    "jobs": list_of(lambda job: has(job, _JOB)),
}


def read_sweep(sweep_dir: Path) -> dict[str, Any]:
    """The record of a sweep, its jobs with all that is written of them.

    Raises:
        SweepError: When there is none, it cannot be read, or a newer version of this program wrote it.
    """
    path = sweep_dir / SWEEP_FILE
    try:
        record = read_json(path)
    except StoredError as error:
        raise SweepError([f"{error}: no record of a sweep; {_ADVICE}"]) from error
    if isinstance(record, dict):
        check_format(path, record.get("format"))
    if not has(record, _RECORD):
        raise SweepError([f"{path} holds something that is no record of a sweep; {_ADVICE}"])
    return record  # type: ignore[no-any-return]  # has() told


def is_sweep(folder: Path) -> bool:
    """Whether ``folder`` is a sweep's, be its record whole or not."""
    return any(os.path.lexists(folder / mark) for mark in _MARKS)


def sweep_dirs(root: Path) -> list[Path]:
    """Folders of sweeps in ``root`` and at any depth below it, the newest first.

    A sweep whose record cannot be read is as old as the file.
    """
    return sorted(_walk(root), key=_age, reverse=True)


def _walk(root: Path) -> Iterator[Path]:
    waiting, seen = [root], set()
    while waiting:
        folder = waiting.pop()
        try:
            known = folder.stat()
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError:
            continue  # gone, or not ours to look into
        if (known.st_dev, known.st_ino) in seen:
            continue  # a link that leads back
        seen.add((known.st_dev, known.st_ino))
        names = {entry.name for entry in entries}
        own = _OWN if names.intersection(_MARKS) else ()
        if own:
            yield folder
        elif HYDRA_FOLDER in names:
            continue  # a job
        waiting += [
            folder / entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.name not in own and entry.is_dir()
        ]


def _age(folder: Path) -> tuple[float, float]:
    """When it was made; of one second, when its record was written."""
    file = folder / SWEEP_FILE
    try:
        written = (file if file.exists() else folder).stat().st_mtime
    except OSError:
        written = 0.0
    try:
        record = read_json(file)
    except StoredError:
        return written, written
    created = record.get("created") if isinstance(record, dict) else None
    return (float(created) if is_number(created) else written), written  # type: ignore[arg-type]  # is_number() told
