"""The sweep's append-only record of what happened to each job; resuming reads it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from lora_foundry.config.errors import FORMAT, SweepError, check_format
from lora_foundry.launch.records.state import SweepState, fold
from lora_foundry.tracking.processes import ProcessMark
from lora_foundry.wire.appending import Appender
from lora_foundry.wire.events import Event
from lora_foundry.wire.journal import JOURNAL, HeadLine, JournalLine, LauncherLine

FILE = "journal.jsonl"
_PATIENCE_S = 0.3  # src.status takes the lock for a moment to see whether it is free


class SweepBusyError(RuntimeError):
    """Another process trains in this sweep's folder."""


class Journal:
    """An open journal; holding it means owning the sweep's folder.

    Attributes:
        state: What is folded into as lines are written and events are heard; whoever goes on with a sweep begins with
            what :func:`lora_foundry.launch.records.reading.read_state` finds.

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
        self.state = SweepState()
        try:
            self._lock(sweep_dir)
            if path.stat().st_size:
                check_format(path, _format_of(path))
                self._mend()
            else:
                self.write(HeadLine(format=FORMAT))
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
                    msg = f"{sweep_dir} is in use by another process; wait for its end (or end it), then try again"
                    raise SweepBusyError(msg) from error
                time.sleep(0.02)
            else:
                return

    def sign(self) -> None:
        """Say whose the sweep is: those who find it taken are told."""
        own = ProcessMark.own()
        self.write(LauncherLine(host=own.host, pid=own.pid, started=own.started))

    def fileno(self) -> int:
        """The descriptor that carries the lock, for the worker to inherit."""
        return self._file.fileno()

    def write(self, line: JournalLine) -> None:
        """Append one line and sync it to the disk; while that is full it waits for the next."""
        self._lines.append(JOURNAL.written(line), sync=True)
        fold(self.state, line)

    def hear(self, event: Event) -> None:
        """Take in an event that is not worth a line."""
        fold(self.state, event)

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


def is_held(sweep_dir: Path) -> bool:
    """Whether a launcher, or a worker that it left behind, works in ``sweep_dir``."""
    try:
        descriptor = os.open(sweep_dir / FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def read_journal(sweep_dir: Path) -> list[JournalLine]:
    """Every whole line of the journal after its first, which names the format; torn and foreign ones are passed over.

    Raises:
        SweepError: When it cannot be read, or a newer version of this program wrote it.
    """
    path = sweep_dir / FILE
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise SweepError([f"{path} cannot be read ({error.strerror}); restore the file, or move it away"]) from error
    found = []
    for line in JOURNAL.read_all(lines):
        if isinstance(line, HeadLine):
            check_format(path, line.format)
        else:
            found.append(line)
    return found


def _format_of(path: Path) -> object:
    """What the first line says; None where it says nothing."""
    with path.open("rb") as file:
        first = JOURNAL.read(file.readline())
    return first.format if isinstance(first, HeadLine) else None
