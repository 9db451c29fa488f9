"""The worker's only way to the outside: events appended to a file."""

from __future__ import annotations

import json
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from src.config.appending import Appender

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from src.config.events import Kind

_SYNCED = {"state", "worker"}
_ENDS = {"FINISHED", "FAILED", "KILLED"}
_GIVEN_BACK = {"handed_back", "refused"}
_ROOM_EVERY_S = 0.5


class Spool:
    """Appends one JSON object a line; a line is whole or, after a kill, torn and passed over by readers.

    While the disk is full lines wait in memory: the training goes on, and nothing of it is left out later.

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
        self._lines = Appender(self._file.fileno())
        if path.stat().st_size:
            self._lines.append(b"\n")  # ends a line that a killed worker left torn

    def emit(self, kind: Kind, job: int | None, **values: Any) -> None:  # noqa: ANN401
        """Append one event; states reach the disk before this returns, if it has room."""
        line = json.dumps({"t": time.time(), "kind": kind, "job": job, **_plain(values)})
        with self._lock:
            self._lines.append(line.encode() + b"\n", sync=kind in _SYNCED)
            if kind == "state" and job is not None and values["state"] in _ENDS:
                self.ended.add(job)
            if kind == "worker" and values["state"] in _GIVEN_BACK:
                self.ended.update(values["jobs"])

    def keeps_up(self) -> bool:
        """Whether all that was emitted is in the file."""
        with self._lock:
            self._lines.append()
            return not self._lines.waits

    def close(self, give_up: Callable[[], bool] = lambda: True) -> None:
        """Sync and close; on a full disk, wait for room until ``give_up`` says not to."""
        while not self.keeps_up() and not give_up():
            time.sleep(_ROOM_EVERY_S)
        with self._lock:
            self._lines.append(sync=True)
            self._file.close()


def _plain(value: Any) -> Any:  # noqa: ANN401
    """JSON has no word for nan and infinities: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
