"""Commands of the launcher: JSON lines on standard input, and signals."""

from __future__ import annotations

import queue
import signal
import sys
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from lora_foundry.wire.commands import (
    COMMANDS,
    Command,
    ExitCommand,
    JoinCommand,
    PackCommand,
    PruneJobCommand,
    StopCommand,
    StopJobCommand,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALLOWED = "pack, join, stop, stop_job, prune_job and exit"


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
        self._pruned: set[int] = set()
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

    def pruned(self) -> frozenset[int]:
        """Numbers of the jobs that are to end so since going on with them is not worth it."""
        return frozenset(self._pruned)

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
            command = COMMANDS.read(line)
            if command is None:
                sys.stderr.write(f"a command was not understood (allowed are {_ALLOWED}): {line}")
            else:
                self._take(command)
        self.stop()

    def _take(self, command: Command) -> None:
        if isinstance(command, PackCommand):
            # One that was stopped before may be wanted again.
            for asked in (self._stopped, self._pruned):
                asked.difference_update(one.job for one in command.jobs)
            with self._lock:
                if isinstance(command, JoinCommand) and command.pack == self._under_way:
                    self._joining.append(command)
                    return
            self._packs.put(command)
        elif isinstance(command, StopCommand):
            self.stop()
        elif isinstance(command, StopJobCommand):
            self._stopped.add(command.job)
        elif isinstance(command, PruneJobCommand):
            self._pruned.add(command.job)
        elif isinstance(command, ExitCommand):
            self._packs.put(None)
