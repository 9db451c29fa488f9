"""Going on with what a sweep left: one job (``resume=<job folder>``) or all that is unfinished (``src.resume``)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.parse import ConfigError, parse
from src.config.schema import JobConfig, TrackingConfig
from src.launch.folders import HYDRA_FOLDER, SWEEP_FILE, read_sweep
from src.launch.journal import read_journal
from src.launch.points import SweepError
from src.launch.results import JobOutcome, read_results
from src.tracking.records import JobRecord

_ALLOWED = "allowed is a job's folder such as multirun/2026-11-22/17-05-33-a1b2c3/0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """Jobs of one sweep that can be continued.

    Attributes:
        sweep_dir: Their sweep's folder.
        sweep: Their sweep's record.
        jobs: The jobs, with their stored configurations.
        packs: Name and numbers of the jobs of each pack, in the order to train them.
        cwd: Folder that the stored configurations' relative paths start from.
        notes: What the user is told first.
    """

    sweep_dir: Path
    sweep: dict[str, Any]
    jobs: tuple[JobRecord, ...]
    packs: tuple[tuple[str, tuple[int, ...]], ...]
    cwd: Path
    notes: tuple[str, ...]

    def spools(self) -> list[Path]:
        """A new file for the events of each pack."""
        folder = self.sweep_dir / "spool"
        first = len(list(folder.glob("resume-*.jsonl")))
        return [folder / f"resume-{first + place}.jsonl" for place in range(len(self.packs))]


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
    job = _stored_job(sweep_dir, entry)
    if not has_checkpoint(job_dir):
        again = shlex.join(["python", "-m", "src.train", *(f"{k}={v}" for k, v in entry["overrides"].items())])
        raise SweepError([f"resume: {job_dir} holds no checkpoint to continue from; train it anew: {again}"])
    return Resumed(
        sweep_dir=sweep_dir,
        sweep=sweep,
        jobs=(replace(job, config=replace(job.config, tracking=tracking)) if tracking is not None else job,),
        packs=((job.pack, (job.index,)),),
        cwd=_cwd(sweep),
        notes=(f"continuing {job.name} in {job_dir}",),
    )


def find_unfinished(sweep_dir: Path, *, failed: bool, only: int | None = None) -> Resumed | None:
    """What is left of a sweep: jobs that were stopped, lost or never begun, and on request those that failed.

    Jobs that trained together go on together, so that an interrupted pack continues bitwise as it was.

    Args:
        sweep_dir: Its folder.
        failed: Whether failed jobs are tried again.
        only: The number of the one job that is meant.

    Returns:
        None where nothing is left.

    Raises:
        SweepError: When the sweep or a configuration cannot be read.
    """
    sweep = read_sweep(sweep_dir)
    results = {result.index: result for result in read_results(sweep_dir)}
    left = [
        number
        for number, result in results.items()
        if only in (None, number) and (_is_lost(sweep_dir, result) or (failed and result.state == "FAILED"))
    ]
    if not left:
        return None
    entries = {entry["job"]: entry for entry in sweep["jobs"]}
    return Resumed(
        sweep_dir=sweep_dir,
        sweep=sweep,
        jobs=tuple(_stored_job(sweep_dir, entries[number]) for number in left),
        packs=_last_packs(sweep_dir, entries, left),
        cwd=_cwd(sweep),
        notes=tuple(_notes(results, left, only=only)),
    )


def _is_lost(sweep_dir: Path, result: JobOutcome) -> bool:
    """Whether the job has no end, or finished with a file that is gone."""
    file = (result.summary or {}).get("file")
    return result.state == "KILLED" or (result.state == "FINISHED" and not (sweep_dir / str(file)).exists())


def _notes(results: dict[int, JobOutcome], left: Sequence[int], *, only: int | None) -> list[str]:
    notes = []
    for number in left:
        result = results[number]
        how = "from its last checkpoint" if has_checkpoint(result.dir) else "from the beginning: it has no checkpoint"
        notes.append(f"{result.name} ({result.state}) goes on {how}")
    if only is None:
        skipped = [result for number, result in results.items() if number not in left]
        finished = [result.name for result in skipped if result.state == "FINISHED"]
        broken = [result.name for result in skipped if result.state == "FAILED"]
        notes += [f"skipped, finished with its files in place: {', '.join(finished)}"] if finished else []
        notes += [f"skipped, failed (--failed tries again): {', '.join(broken)}"] if broken else []
    return notes


def _last_packs(
    sweep_dir: Path, entries: dict[int, dict[str, Any]], left: Sequence[int]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The packs that the jobs were last in, as the journal has them."""
    pack_of = {number: str(entries[number]["pack"]) for number in left}
    for line in read_journal(sweep_dir):
        if line.get("event") == "pack":
            pack_of |= {number: str(line["pack"]) for number in line["jobs"] if number in pack_of}
    names = dict.fromkeys(pack_of[number] for number in left)
    return tuple((name, tuple(number for number in left if pack_of[number] == name)) for name in names)


def _stored_job(sweep_dir: Path, entry: dict[str, Any]) -> JobRecord:
    folder = sweep_dir / entry["dir"]
    return JobRecord(
        index=entry["job"],
        name=entry["name"],
        dir=folder,
        config=_stored_config(folder / HYDRA_FOLDER / "config.yaml"),
        overrides=entry["overrides"],
        pack=entry["pack"],
    )


def stored_launcher(resumed: Resumed) -> dict[str, Any]:
    """The launcher's options that the sweep began with; empty where they cannot be read."""
    path = resumed.jobs[0].dir / HYDRA_FOLDER / "hydra.yaml"
    try:
        node = OmegaConf.select(OmegaConf.load(path), "hydra.launcher")
        options = OmegaConf.to_container(node, resolve=True)
    except (OSError, ValueError):
        return {}
    return {str(key): value for key, value in options.items() if key != "_target_"} if isinstance(options, dict) else {}


def _cwd(sweep: dict[str, Any]) -> Path:
    cwd = Path(str(sweep.get("cwd", "")))
    return cwd if cwd.is_dir() else Path.cwd()


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
