"""``resume=<job folder>``: one job of an earlier sweep, continued in its own folder."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.parse import ConfigError, parse
from src.config.schema import JobConfig, TrackingConfig
from src.launch.folders import HYDRA_FOLDER, SWEEP_FILE, read_sweep
from src.launch.points import SweepError
from src.tracking.records import JobRecord

_ALLOWED = "allowed is a job's folder such as multirun/2026-11-22/17-05-33-a1b2c3/0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """A job that can be continued.

    Attributes:
        sweep_dir: Its sweep's folder.
        sweep: Its sweep's record.
        job: The job, with its stored configuration.
        spool: A new file for the worker's events.
        cwd: Folder that the stored configuration's relative paths start from.
    """

    sweep_dir: Path
    sweep: dict[str, Any]
    job: JobRecord
    spool: Path
    cwd: Path


def find_resumed(folder: str, tracking: TrackingConfig | None) -> Resumed:
    """Look up the job in ``folder``.

    Args:
        folder: What ``resume=`` was given.
        tracking: Where to record instead of where the job was recorded; null keeps that.

    Raises:
        SweepError: When it is no job's folder, holds no checkpoint, or its configuration cannot be read.
    """
    job_dir, sweep_dir, sweep = _locate(folder)
    entry = next((job for job in sweep["jobs"] if (sweep_dir / job["dir"]).resolve() == job_dir.resolve()), None)
    if entry is None:
        raise SweepError([f"resume: {sweep_dir / SWEEP_FILE} knows no job in {job_dir}; {_ALLOWED}"])
    config = _stored_config(job_dir / HYDRA_FOLDER / "config.yaml")
    if not has_checkpoint(job_dir):
        again = shlex.join(["python", "-m", "src.train", *(f"{k}={v}" for k, v in entry["overrides"].items())])
        raise SweepError([f"resume: {job_dir} holds no checkpoint to continue from; train it anew: {again}"])
    cwd = Path(str(sweep.get("cwd", "")))
    spools = sweep_dir / "spool"
    return Resumed(
        sweep_dir=sweep_dir,
        sweep=sweep,
        job=JobRecord(
            index=entry["job"],
            name=entry["name"],
            dir=job_dir,
            config=replace(config, tracking=tracking) if tracking is not None else config,
            overrides=entry["overrides"],
            pack=entry["pack"],
        ),
        spool=spools / f"resume-{len(list(spools.glob('resume-*.jsonl')))}.jsonl",
        cwd=cwd if cwd.is_dir() else Path.cwd(),
    )


def _locate(folder: str) -> tuple[Path, Path, dict[str, Any]]:
    """The job's folder, its sweep's, and the sweep's record."""
    job_dir = Path(folder).expanduser().absolute()
    if not job_dir.is_dir():
        raise SweepError([f"resume: got {folder!r}, which is no folder; {_ALLOWED}"])
    if not (job_dir / HYDRA_FOLDER / "config.yaml").is_file():
        inside = sorted(path.parent.parent.name for path in job_dir.glob(f"*/{HYDRA_FOLDER}/config.yaml"))
        jobs = (
            f"; it is a sweep's folder, its jobs are {', '.join(inside)}: resume={folder.rstrip('/')}/"
            if inside
            else ""
        )
        raise SweepError([f"resume: got {folder!r}, which holds no job{jobs}{''.join(inside[:1])}; {_ALLOWED}"])
    sweep_dir = next((parent for parent in job_dir.parents if (parent / SWEEP_FILE).is_file()), None)
    if sweep_dir is None:
        raise SweepError(
            [f"resume: {job_dir} lies in no sweep's folder ({SWEEP_FILE} is missing above it); {_ALLOWED}"]
        )
    return job_dir, sweep_dir, read_sweep(sweep_dir)


def has_checkpoint(job_dir: Path) -> bool:
    """Whether there is something to continue from."""
    return any(job_dir.glob("checkpoints/*.safetensors"))


def _stored_config(stored: Path) -> JobConfig:
    loaded = OmegaConf.create(stored.read_text())
    if not isinstance(loaded, DictConfig):
        raise SweepError([f"resume: {stored} is no configuration"])
    try:
        return parse(loaded)
    except ConfigError as error:
        raise SweepError([f"resume: {stored}: {problem}" for problem in error.problems]) from error
