"""Commands of the launcher: JSON lines on standard input, and signals."""

from __future__ import annotations

import json
import queue
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from src.training.jobs import PackedJob

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True, slots=True)
class PackCommand:
    """Train these jobs together.

    Attributes:
        pack: The pack's name.
        spool: Where its events go.
        jobs: Its jobs.
        least_gain: The gain below which they are not worth training together, to be found out; None: no question.
    """

    pack: str
    spool: Path
    jobs: tuple[PackedJob, ...]
    least_gain: float | None = None


class Commands:
    """Reads commands in a thread of its own, so that a stop is seen between two steps.

    A closed pipe means that the launcher is gone: the pack under way is checkpointed and the worker ends,
    so no orphan trains on.

    Attributes:
        asked: How often :meth:`stopping` was called. It is asked between any two forwards of the base and any two
            batches of what is encoded, so a number that stands still means work that stands still.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._packs: queue.SimpleQueue[PackCommand | None] = queue.SimpleQueue()  # its put may interrupt itself
        self._stop = threading.Event()
        self._stopped: set[int] = set()
        self._joining: list[PackCommand] = []
        self._under_way: str | None = None
        self._lock = threading.Lock()
        self.asked = 0

    def start(self) -> None:
        """Begin to read; SIGTERM and SIGHUP count as a stop."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stop())
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def stop(self) -> None:
        """End after the step under way."""
        self._stop.set()
        self._packs.put(None)

    def stopping(self) -> bool:
        """Whether to end after the step under way."""
        self.asked += 1
        return self._stop.is_set()

    def stopped(self) -> frozenset[int]:
        """Numbers of the jobs that are to end after the step under way, whatever becomes of the others."""
        return frozenset(self._stopped)

    def next_pack(self) -> PackCommand | None:
        """The next pack; waits for it. None when the worker is to end."""
        return None if self.stopping() else self._packs.get()

    def joining(self) -> list[PackCommand]:
        """What came for the pack under way since the last call."""
        with self._lock:
            came, self._joining = self._joining, []
        return came

    @contextmanager
    def under_way(self, pack: str) -> Iterator[None]:
        """Jobs that are to join ``pack`` come by :meth:`joining` inside; those that came too late are a next pack."""
        with self._lock:
            self._under_way = pack
        try:
            yield
        finally:
            with self._lock:
                late, self._joining, self._under_way = self._joining, [], None
            for command in late:
                self._packs.put(command)

    def _read(self) -> None:
        for line in self._stream:
            if not line.strip():
                continue
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                sys.stderr.write(f"a command was not understood ({error!r}): {line}")
        self.stop()

    def _take(self, command: dict[str, Any]) -> None:
        name = command["cmd"]
        if name in ("pack", "join"):
            asked = _pack(command)
            self._stopped.difference_update(one.job for one in asked.jobs)  # stopped before, it may be wanted again
            with self._lock:
                if name == "join" and asked.pack == self._under_way:
                    self._joining.append(asked)
                    return
            self._packs.put(asked)
        elif name == "stop":
            self.stop()
        elif name == "stop_job":
            self._stopped.add(int(command["job"]))
        elif name == "exit":
            self._packs.put(None)
        else:
            msg = f"got command {name!r}, allowed are pack, join, stop, stop_job and exit"
            raise ValueError(msg)


def _pack(command: dict[str, Any]) -> PackCommand:
    least = command.get("least_gain")
    return PackCommand(
        pack=str(command["pack"]),
        spool=Path(command["spool"]),
        jobs=tuple(
            PackedJob(job=int(j["job"]), folder=Path(j["dir"]), name=str(j["name"]), resume=bool(j["resume"]))
            for j in command["jobs"]
        ),
        least_gain=None if least is None else float(least),
    )
