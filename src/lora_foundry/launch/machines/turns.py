"""Turns of sweeps on one device of a machine: a lock, and a queue for those who find it taken.

The lock lies on an open file that workers inherit. So a device stays taken while a worker trains on it whose launcher
was killed, and is free the moment that the last process which has the file open has gone, however it went. A ticket of
the queue is a file with a lock of the same kind, so one of a dead process is known by its lock being free.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.paths import home_path
from lora_foundry.wire.fields import Form

VARIABLE = "LORA_FOUNDRY_LOCKS"
_SILENT_S = 30.0  # a sweep that was not heard of for so long (Ctrl-Z) keeps its place and is passed over
_READABLE = 4096  # bytes


def locks_dir() -> Path:
    """The folder of this user's locks on this machine.

    Not below ``XDG_RUNTIME_DIR``: that is removed at the end of the last login, and sweeps go on after it. Not below
    ``TMPDIR`` where it can be helped: a job of a cluster has one of its own, and the devices are the machine's.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return home_path(given)
    common = Path("/tmp")  # noqa: S108  # owner and mode are checked before it is used
    root = common if common.is_dir() and os.access(common, os.W_OK) else Path(tempfile.gettempdir())
    return root / f"lora-foundry-{os.getuid()}"


def make_locks_dir() -> Path:
    """The same, made where it is missing.

    Raises:
        OSError: When it cannot be made or written, or is another user's.
    """
    folder = locks_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.environ.get(VARIABLE) and (folder.is_symlink() or folder.stat().st_uid != os.getuid()):
        raise PermissionError(f"{folder} is another user's")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written")
    return folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """A sweep that has a device or waits for it.

    Attributes:
        pid: Of its launcher; 0 where that is not known.
        since: When it took the device or its ticket (Unix seconds).
        sweep: Its folder.
    """

    pid: int
    since: float
    sweep: str

    def alive(self) -> bool:
        """Whether its launcher lives; a process born after it wrote its name is another one."""
        import psutil  # asked only where a device is taken

        try:
            return bool(self.pid) and psutil.Process(self.pid).create_time() < self.since + 1.0
        except psutil.NoSuchProcess:
            return False

    def family(self) -> frozenset[int]:
        """Numbers of its launcher and of all its processes; empty where the launcher has gone."""
        import psutil

        try:
            children = psutil.Process(self.pid).children(recursive=True) if self.alive() else []
        except psutil.NoSuchProcess:
            return frozenset()
        return frozenset({self.pid, *(child.pid for child in children)}) if self.alive() else frozenset()

    def resident(self) -> int:
        """Bytes of the host's memory that they have."""
        import psutil

        taken = 0
        for pid in self.family():
            try:
                taken += psutil.Process(pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return taken

    def about(self) -> str:
        """For people."""
        if self.alive():
            return f"in use by the sweep in {self.sweep} (pid {self.pid})"
        return f"in use by a worker that the sweep in {self.sweep} left behind"


_FORM = Form(Holder)  # of a lock's file, and of a ticket


def holder_of(lock: str) -> Holder | None:
    """Who has the device; null where it is free. Nothing is created."""
    path = locks_dir() / f"{lock}.lock"
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _written(descriptor) if _is_locked(descriptor) else None
    finally:
        os.close(descriptor)


def is_wanted(lock: str) -> bool:
    """Whether a live sweep is in the device's queue. Nothing is created."""
    folder = locks_dir()
    queue = folder / f"{lock}.queue"
    try:
        tickets = [path for path in queue.iterdir() if path.name.isdigit()]
    except OSError:
        return False
    return any(_is_drawn(path) and not _is_silent(path) for path in tickets)


class Turn:
    """One sweep's turn on one device; nothing here waits.

    Args:
        lock: The device's name among locks.
        sweep_dir: What others are told.

    Attributes:
        holder: Who had the device when it was last asked for in vain.
        place: This sweep's in the queue then, 1 for the next; 0 before it was asked.
    """

    def __init__(self, lock: str, sweep_dir: Path) -> None:
        self.holder: Holder | None = None
        self.place = 0
        self._name = lock
        self._sweep_dir = sweep_dir
        self._lock: int | None = None
        self._ticket: tuple[Path, int] | None = None

    @property
    def descriptor(self) -> int | None:
        """The open file with the lock, for workers to inherit; null while the device is another's."""
        return self._lock

    def ask(self) -> bool:
        """Whether the device is this sweep's now; if not, it has a place in the queue.

        Raises:
            OSError: When the folder of locks cannot be written.
        """
        if self._lock is not None:
            return True
        folder = make_locks_dir()
        with _gate(folder) as entered:
            if not entered:
                return False  # another sweep looks at this moment
            ahead = self._ahead(folder / f"{self._name}.queue")
            if not ahead and self._grab(folder / f"{self._name}.lock"):
                self._drop_ticket()
                return True
            self.place = ahead + 1
        self.holder = holder_of(self._name)
        return False

    def leave(self) -> None:
        """Give the device back, or leave the queue. The device is free when its workers have gone, too."""
        self._drop_ticket()
        if self._lock is not None:
            os.close(self._lock)  # not unlocked: a worker that is still there keeps it
            self._lock = None

    def _ahead(self, queue: Path) -> int:
        """How many live sweeps come first; draws a ticket where this one has none."""
        queue.mkdir(mode=0o700, exist_ok=True)
        tickets = sorted(path for path in queue.iterdir() if path.name.isdigit() and not _is_dead(path))
        mine = self._ticket[0] if self._ticket is not None else None
        if self._ticket is None or mine not in tickets:  # none, or someone cleaned the folder
            self._drop_ticket()
            last = int(tickets[-1].name) if tickets else 0
            mine = queue / f"{last + 1:09}"
            descriptor = os.open(mine, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            _lock(descriptor)
            self._ticket = mine, descriptor
            self._sign(descriptor)
            return sum(not _is_silent(path) for path in tickets)
        os.utime(self._ticket[1])
        return sum(path < mine and not _is_silent(path) for path in tickets)

    def _grab(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        self._lock = descriptor
        self._sign(descriptor)
        return True

    def _sign(self, descriptor: int) -> None:
        own = Holder(pid=os.getpid(), since=time.time(), sweep=str(self._sweep_dir))
        line = json.dumps(_FORM.written(own))
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, line.encode(), 0)
        except OSError:
            return  # the disk is full: others will not read whose it is, but taken it is

    def _drop_ticket(self) -> None:
        if self._ticket is not None:
            path, descriptor = self._ticket
            self._ticket = None
            path.unlink(missing_ok=True)
            os.close(descriptor)


@contextmanager
def _gate(folder: Path) -> Iterator[bool]:
    """One sweep at a time looks at queues and takes locks; false where another does."""
    descriptor = os.open(folder / "gate", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_dead(ticket: Path) -> bool:
    """Whether the process that drew ``ticket`` has gone; the file goes with it. To be asked inside the gate."""
    try:
        descriptor = os.open(ticket, os.O_RDONLY)
    except FileNotFoundError:
        return True  # it left the queue
    try:
        if _is_locked(descriptor):
            return False
    finally:
        os.close(descriptor)
    ticket.unlink(missing_ok=True)
    return True


def _is_drawn(ticket: Path) -> bool:
    """Whether the process that drew ``ticket`` lives; the file stays."""
    try:
        descriptor = os.open(ticket, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_silent(ticket: Path) -> bool:
    try:
        return time.time() - ticket.stat().st_mtime > _SILENT_S
    except FileNotFoundError:
        return True


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _written(descriptor: int) -> Holder:
    try:
        told = json.loads(os.pread(descriptor, _READABLE, 0))
    except ValueError:  # it took the lock and did not write yet
        told = None
    found = _FORM.read(told) if isinstance(told, dict) else None
    return found or Holder(pid=0, since=0.0, sweep="another folder")
