"""The folder of a sweep and the folders of its jobs."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.digest import config_digest
from lora_foundry.config.errors import FORMAT, SweepError
from lora_foundry.config.files import write_all
from lora_foundry.config.paths import SHIPPED
from lora_foundry.launch.points.point import Point
from lora_foundry.launch.records.record import (
    HYDRA_FOLDER,
    SWEEP_FILE,
    StoredJob,
    StoredSweep,
    claim_sweep,
    read_sweep,
    write_sweep,
)
from lora_foundry.launch.records.yaml_text import YamlTexts
from lora_foundry.tracking.records import JobRecord

_WRITERS = 8  # at a time: the disk syncs several files in the time that one takes


def new_token() -> str:
    """Six characters that keep two sweeps of one second apart (the ``sweep_id`` resolver)."""
    return secrets.token_hex(3)


def typed_line() -> str:
    """The command as it was typed."""
    return command_line("train", *sys.argv[1:])


def refuse_taken(sweep_dir: Path, points: Sequence[Point], *, begun: bool = False) -> None:
    """Keep what an earlier sweep left; ``begun`` allows this process's own sweep in ``sweep_dir``.

    Raises:
        SweepError: When a folder holds a sweep or a job already.
    """
    taken = [] if begun or not (sweep_dir / SWEEP_FILE).exists() else [f"{sweep_dir} holds a sweep already"]
    taken += [f"{point.dir} holds a job already" for point in points if (point.dir / HYDRA_FOLDER).exists()]
    if taken:
        advice = "give another folder, none for a new one, or hydra.launcher.skip_finished=true to go on with its jobs"
        raise SweepError([f"hydra.sweep.dir: {taken[0]}; {advice}"])


def create_sweep(sweep_dir: Path, sweep_id: str) -> StoredSweep:
    """Claim ``sweep_dir`` for a new sweep and write its record.

    Args:
        sweep_dir: The sweep's folder.
        sweep_id: ``<date>-<time>-<token>``, of the moment that the folder is named after.

    Raises:
        SweepError: When the folder holds a sweep already, or cannot be written.
    """
    record = StoredSweep(
        format=FORMAT,
        id=sweep_id,
        command=typed_line(),
        created=time.time(),
        cwd=str(Path.cwd()),
        config_dir=str(SHIPPED / "conf"),
        jobs=(),
    )
    try:
        sweep_dir.mkdir(parents=True, exist_ok=True)
        claim_sweep(sweep_dir, record)
        (sweep_dir / "spool").mkdir(exist_ok=True)
    except FileExistsError as error:
        msg = f"hydra.sweep.dir: {sweep_dir} holds a sweep already; give another folder, or none for a new one"
        raise SweepError([msg]) from error
    except OSError as error:
        with contextlib.suppress(OSError):
            (sweep_dir / SWEEP_FILE).unlink(missing_ok=True)  # an empty record would be a sweep
            sweep_dir.rmdir()  # nothing, where something else lies there
        msg = f"hydra.sweep.dir: {sweep_dir} cannot be written ({error.strerror}); give a folder that can"
        raise SweepError([msg]) from error
    return record


def refuse_empty(sweep_dir: Path) -> None:
    """A sweep that was ended before its jobs were written has trained nothing and cannot go on.

    Raises:
        SweepError: For such a sweep, with the command that starts it.
    """
    record = read_sweep(sweep_dir)
    if not record.jobs:
        advice = f"start it again: {record.command}"
        raise SweepError([f"{sweep_dir}: ended before any job of it was written, so nothing was trained; {advice}"])


def add_jobs(sweep_dir: Path, record: StoredSweep, jobs: Sequence[JobRecord]) -> StoredSweep:
    """Enter ``jobs`` in the sweep's record; returns the new one.

    Raises:
        OSError: When it cannot be written.
    """
    added = tuple(
        StoredJob(
            job=job.index,
            name=job.name,
            dir=job.dir.relative_to(sweep_dir).as_posix() if job.dir.is_relative_to(sweep_dir) else str(job.dir),
            rank=job.config.lora.rank,
            overrides=job.overrides,
            pack=job.pack,
            config=None if job.fork is not None else config_digest(job.config),  # alone it trains another adapter
            warnings=job.warnings,
            fork=job.fork,
        )
        for job in jobs
    )
    record = replace(record, jobs=(*record.jobs, *added))
    write_sweep(sweep_dir, record)
    return record


def write_jobs(points: Sequence[Point], names: Sequence[str]) -> None:
    """Make the jobs' folders with ``.hydra/{config,hydra,overrides}.yaml``; the names are settled in them.

    Raises:
        OSError: When one cannot be written.
    """
    yaml = YamlTexts()
    with ThreadPoolExecutor(_WRITERS) as pool:
        written = [
            pool.submit(
                write_all,
                point.dir / HYDRA_FOLDER,
                {
                    "config.yaml": yaml.of({**point.values, "name": name}),
                    "hydra.yaml": yaml.of(point.hydra_cfg),
                    "overrides.yaml": yaml.of(list(point.words)),
                },
            )
            for point, name in zip(points, names, strict=True)
        ]
        for one in written:
            one.result()
