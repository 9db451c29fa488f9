"""The worker's only way to the outside: events appended to a file."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from lora_foundry.wire.appending import Appender
from lora_foundry.wire.events import EVENTS, WORKER_EVENTS, Event, HandedBack, Refused, StateEvent
from lora_foundry.wire.states import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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

    def emit(self, event: Event) -> None:
        """Append one event; states reach the disk before this returns, if it has room."""
        with self._lock:
            self._lines.append(EVENTS.written(event), sync=isinstance(event, (StateEvent, *WORKER_EVENTS)))
            if isinstance(event, StateEvent) and event.state in ENDED:
                self.ended.add(event.job)
            if isinstance(event, HandedBack | Refused):
                self.ended.update(event.jobs)

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
