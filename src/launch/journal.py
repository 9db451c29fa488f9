"""The sweep's append-only record of what happened to each job; resuming reads it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FILE = "journal.jsonl"
ENDED = ("FINISHED", "FAILED", "KILLED")


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
        """
        path = sweep_dir / FILE
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            msg = f"{sweep_dir} is in use by another process; wait until it has ended (or end it), then try again"
            raise SweepBusyError(msg) from error
        self._mend()

    def fileno(self) -> int:
        """The descriptor that carries the lock, for the worker to inherit."""
        return self._file.fileno()

    def write(self, event: str, **values: Any) -> None:  # noqa: ANN401
        """Append one line and sync it to the disk."""
        line = json.dumps({"t": time.time(), "event": event, **values})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _mend(self) -> None:
        """End a line that a power cut tore, so that the next one is whole."""
        path = Path(self._file.name)
        size = path.stat().st_size
        if size:
            with path.open("rb") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    self._file.write(b"\n")

    def close(self) -> None:
        """Give the sweep's folder back (the worker's share of the lock ends with the worker)."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_journal(sweep_dir: Path) -> list[dict[str, Any]]:
    """Every whole line of the journal; torn ones are passed over."""
    path = sweep_dir / FILE
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def last_states(sweep_dir: Path) -> dict[int, dict[str, Any]]:
    """For each job, the last journalled ``{"state", "error", "summary"}``."""
    found: dict[int, dict[str, Any]] = {}
    for line in read_journal(sweep_dir):
        if line.get("event") == "job":
            found[int(line["job"])] = {key: line.get(key) for key in ("state", "error", "summary")}
    return found
