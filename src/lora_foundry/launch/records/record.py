"""``sweep.json``, the record of a sweep in its folder: how it is written and read, and where sweeps are looked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lora_foundry.config.errors import SweepError, check_format
from lora_foundry.config.files import write_json
from lora_foundry.config.stored import StoredError, is_number, read_json
from lora_foundry.wire.fields import Form, Loose
from lora_foundry.wire.forks import Fork

SWEEP_FILE = "sweep.json"
HYDRA_FOLDER = ".hydra"
_MARKS = (SWEEP_FILE, "journal.jsonl")
_OWN = ("spool", "packs", "data")  # folders of a sweep that hold no other
_ADVICE = "restore it to go on with the sweep, or train anew (finished adapters lie in the jobs' folders)"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredJob:
    """A job in its sweep's record.

    Attributes:
        job: Its number.
        name: The adapter's name.
        dir: Its folder, from the sweep's where it lies in it.
        rank: The adapter's rank.
        overrides: What the command line set, key to value.
        pack: Name of the pack that it was planned for.
        config: Digest of its configuration; null in records of earlier versions, as the next, and of what another
            command for the same would not train: one that was made longer, or a fork.
        warnings: Tags that say what the user was warned of.
        fork: What it begins from; null begins anew.
    """

    job: int
    name: str
    dir: str
    rank: int
    overrides: Mapping[str, str]
    pack: str
    config: str | None = None
    warnings: Mapping[str, str] | None = None
    fork: Loose[Fork] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSweep:
    """The record of a sweep.

    Attributes:
        format: The number of the file's format; null is the first.
        id: ``<date>-<time>-<token>``.
        command: The command line that made it.
        created: Unix seconds.
        cwd: Folder that it was started in, from which relative paths of configurations start.
        config_dir: The YAML groups that it was composed of.
        jobs: In the order in which they came.
    """

    format: object
    id: str
    command: str
    created: float
    cwd: str | None
    config_dir: Loose[str]
    jobs: tuple[StoredJob, ...]

    def start(self) -> Path:
        """Folder that relative paths of configurations start from: where it was started, or here if that is gone."""
        return Path(self.cwd) if self.cwd and Path(self.cwd).is_dir() else Path.cwd()


_FORM = Form(StoredSweep)
R = TypeVar("R")


def read_sweep(sweep_dir: Path) -> StoredSweep:
    """The record of a sweep, its jobs with all that is written of them.

    Raises:
        SweepError: When there is none, it cannot be read, or a newer version of this program wrote it.
    """
    return read_record(sweep_dir / SWEEP_FILE, _FORM, f"no record of a sweep; {_ADVICE}")


def read_record(path: Path, form: Form[R], without: str) -> R:
    """A record in a sweep's folder, whose ``format`` tells who may read it.

    Args:
        path: The file.
        form: What it holds.
        without: What is said where it holds something else, and what to do.

    Raises:
        SweepError: When there is none, it cannot be read, or a newer version of this program wrote it.
    """
    try:
        told = read_json(path)
    except StoredError as error:
        raise SweepError([f"{error}: {without}"]) from error
    if isinstance(told, dict):
        check_format(path, told.get("format"))
    record = form.read(told) if isinstance(told, dict) else None
    if record is None:
        raise SweepError([f"{path} holds something that is {without}"])
    return record


def claim_sweep(sweep_dir: Path, record: StoredSweep) -> None:
    """Write the record where there is none yet.

    Raises:
        FileExistsError: When there is one.
        OSError: When it cannot be written.
    """
    with (sweep_dir / SWEEP_FILE).open("x") as file:
        json.dump(_FORM.written(record), file)


def write_sweep(sweep_dir: Path, record: StoredSweep) -> None:
    """Write the record in the place of the one that is there, atomically.

    Raises:
        OSError: When it cannot be written.
    """
    write_json(sweep_dir / SWEEP_FILE, _FORM.written(record))


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
