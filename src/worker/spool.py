"""The worker's only way to the outside: events appended to a file."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from src.config.events import Kind

_SYNCED = {"state", "worker"}
_ENDS = {"FINISHED", "FAILED", "KILLED"}
_GIVEN_BACK = {"handed_back", "refused"}


class Spool:
    """Appends one JSON object a line; a line is whole or, after a kill, torn and passed over by readers.

    Args:
        path: The spool file; made if it is not there.
        root: The sweep's folder, which paths in events are relative to.

    Attributes:
        ended: Jobs whose end was told through this spool, or that were given back to the launcher.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.root = root
        self.ended: set[int] = set()
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if path.stat().st_size:
            self._file.write(b"\n")  # ends a line that a killed worker left torn

    def emit(self, kind: Kind, job: int | None, **values: Any) -> None:  # noqa: ANN401
        """Append one event; states reach the disk before this returns."""
        line = json.dumps({"t": time.time(), "kind": kind, "job": job, **_plain(values)})
        with self._lock:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            if kind in _SYNCED:
                os.fsync(self._file.fileno())
            if kind == "state" and job is not None and values["state"] in _ENDS:
                self.ended.add(job)
            if kind == "worker" and values["state"] in _GIVEN_BACK:
                self.ended.update(values["jobs"])

    def close(self) -> None:
        """Sync and close."""
        with self._lock:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def _plain(value: Any) -> Any:  # noqa: ANN401
    """JSON has no word for nan and infinities: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
