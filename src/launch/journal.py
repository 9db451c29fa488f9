"""The sweep's append-only record of what happened to each job; resuming reads it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from src.config.appending import Appender
from src.launch.errors import FORMAT, SweepError, check_format

FILE = "journal.jsonl"
ENDED = ("FINISHED", "FAILED", "KILLED")
_HEAD = "journal"  # the event of the first line
_PATIENCE_S = 0.3  # src.status takes the lock for a moment to see whether it is free


class SweepBusyError(RuntimeError):
    """Another process trains in this sweep's folder."""


class Journal:
    """An open journal; holding it means owning the sweep's folder.

    The lock lies on the open file and is inherited by the worker, so a sweep whose launcher was killed
    stays owned until its worker has written the last checkpoint and gone.
    """

    def __init__(self, sweep_dir: Path) -> None:
        """Open and lock.

        Raises:
            SweepBusyError: When another process owns the sweep.
            SweepError: When the folder cannot be written, or a newer version of this program wrote the journal.
        """
        path = sweep_dir / FILE
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise SweepError([f"{sweep_dir} cannot be written ({error.strerror}); free or unlock it"]) from error
        self._lines = Appender(self._file.fileno())
        try:
            self._lock(sweep_dir)
            if path.stat().st_size:
                check_format(path, _format_of(path))
                self._mend()
            else:
                self.write(_HEAD, format=FORMAT)
        except BaseException:
            self._file.close()
            raise

    def _lock(self, sweep_dir: Path) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    msg = f"{sweep_dir} is in use by another process{_named(sweep_dir)}; wait for its end (or end it), "
                    msg += "then try again"
                    raise SweepBusyError(msg) from error
                time.sleep(0.02)
            else:
                return

    def fileno(self) -> int:
        """The descriptor that carries the lock, for the worker to inherit."""
        return self._file.fileno()

    def write(self, event: str, **values: Any) -> None:  # noqa: ANN401
        """Append one line and sync it to the disk; while that is full it waits for the next."""
        line = json.dumps({"t": time.time(), "event": event, **values})
        self._lines.append(line.encode() + b"\n", sync=True)

    def _mend(self) -> None:
        """End a line that a power cut tore, so that the next one is whole."""
        path = Path(self._file.name)
        size = path.stat().st_size
        if size:
            with path.open("rb") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    self._lines.append(b"\n")

    def close(self) -> None:
        """Give the sweep's folder back (the worker's share of the lock ends with the worker)."""
        self._lines.append(sync=True)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _named(sweep_dir: Path) -> str:
    """The sweep's workers that are still there, for who has to end one that hangs."""
    pids: list[int] = []
    for line in read_journal(sweep_dir):
        if line.get("event") == "worker" and isinstance(pid := line.get("pid"), int):
            pids = [other for other in pids if other != pid] + ([pid] if line.get("state") == "started" else [])
    there = [str(pid) for pid in pids if Path(f"/proc/{pid}").exists()]
    return f" (worker process {', '.join(there)})" if there else ""


def read_journal(sweep_dir: Path) -> list[dict[str, Any]]:
    """Every whole line of the journal after its first, which names the format; torn ones are passed over.

    Raises:
        NewerFormatError: When a newer version of this program wrote it.
    """
    path = sweep_dir / FILE
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            if value.get("event") == _HEAD:
                check_format(path, value.get("format"))
            else:
                found.append(value)
    return found


def _format_of(path: Path) -> object:
    """What the first line says; None where it says nothing."""
    with path.open("rb") as file, contextlib.suppress(ValueError):
        first = json.loads(file.readline())
        return first.get("format") if isinstance(first, dict) and first.get("event") == _HEAD else None
    return None


def last_states(sweep_dir: Path) -> dict[int, dict[str, Any]]:
    """For each job, the last journalled ``{"state", "error", "summary"}``."""
    found: dict[int, dict[str, Any]] = {}
    for line in read_journal(sweep_dir):
        if line.get("event") == "job":
            found[int(line["job"])] = {key: line.get(key) for key in ("state", "error", "summary")}
    return found
