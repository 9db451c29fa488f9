"""Runs that a crash left RUNNING: set right by whoever records next."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from lora_foundry.tracking.errors import SweepBusyError, TrackingError
from lora_foundry.tracking.ingest import connect
from lora_foundry.tracking.processes import ProcessMark
from lora_foundry.tracking.runs import search
from lora_foundry.tracking.trackfile import LOCK, TrackFile, read_track_file

if TYPE_CHECKING:
    from lora_foundry.tracking.store import Store


def settle_dead_sweeps(store: Store, *, except_sweep: str) -> list[str]:
    """End the sweeps whose launcher has died, after logging what their spools still hold; returns their ids.

    A sweep whose folder is gone has its runs FAILED in the store. One that another process records at this
    moment, or whose launcher ran on another machine, is left alone.
    """
    settled = []
    for run in list(search(store, "tags.role = 'sweep' and attributes.status = 'RUNNING'")):
        tags: dict[str, Any] = run.data.tags
        sweep = str(tags.get("sweep"))
        if sweep == except_sweep or not _mark_of(tags).is_dead():
            continue
        try:
            settle(Path(str(tags.get("sweep_dir"))), sweep=sweep)
        except SweepBusyError:
            continue
        except TrackingError:
            _fail_in_store(store, sweep)
        settled.append(sweep)
    return settled


def settle(sweep_dir: Path, *, sweep: str | None = None) -> TrackFile:
    """Log what ``sweep_dir``'s spool still holds and end its runs.

    A job that the launcher did not end keeps the state that its worker wrote last, and is FAILED without one.

    Raises:
        SweepBusyError: When its launcher lives, or another process is at it.
        TrackingError: When the folder holds no sweep, or not ``sweep``.
        mlflow.exceptions.MlflowException: When the store cannot be reached.
    """
    if not sweep_dir.is_dir():
        raise TrackingError(f"{sweep_dir} is no folder; expected a sweep's, such as multirun/<date>/<time>-<id>")
    read_track_file(sweep_dir)
    lock = FileLock(sweep_dir / LOCK)
    try:
        with lock.acquire(timeout=0):
            track = read_track_file(sweep_dir)
            if sweep is not None and track.sweep != sweep:
                raise TrackingError(f"{sweep_dir} holds the sweep {track.sweep}, not {sweep}")
            if set(track.jobs) - set(track.ended) and not track.launcher.is_dead():
                raise SweepBusyError(f"the sweep still runs (process {track.launcher.pid}) and is recorded by it")
            ingest = connect(track, sweep_dir)
            while ingest.flush():
                pass
            ends = {index: track.ended.get(index) or track.states.get(index) or "FAILED" for index in track.jobs}
            crashed = bool(set(track.jobs) - set(track.ended))
            ingest.finish(ends, time.time(), crashed=crashed)
            return track
    except Timeout as error:
        raise SweepBusyError("another process records this sweep") from error


def _mark_of(tags: dict[str, str]) -> ProcessMark:
    try:
        return ProcessMark(
            host=tags["launcher_host"], pid=int(tags["launcher_pid"]), started=float(tags["launcher_started"])
        )
    except (KeyError, ValueError):
        # Not written by this program's launcher: another host's name, which is never judged dead.
        return ProcessMark(host="", pid=0, started=0.0)


def _fail_in_store(store: Store, sweep: str) -> None:
    for run in list(search(store, f"tags.sweep = '{sweep}' and attributes.status = 'RUNNING'")):
        store.client.set_terminated(run.info.run_id, status="FAILED")
