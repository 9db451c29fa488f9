"""Processes of this project that need not import it again: each is forked from one that has done so.

Importing is most of what a short process of a test costs: torch, diffusers, PEFT and Lightning take a worker as long as
its training, Hydra and MLflow a launcher. :class:`Popen` and :func:`run` are those of :mod:`subprocess`, and what they
give are real processes with pipes, signals, locks and exit codes. A line that is not ``python -m MODULE ...``, or an
environment that an interpreter would have read at its start, is started by :mod:`subprocess` itself. Whatever tests
starting, importing or memory starts processes without this.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.launch.start_fake_worker import COMMAND as FAKE_WORKER
from tests.root import PROJECT_ROOT

_START_S = 120.0
_FOLDER, _OWNER = "LORA_FOUNDRY_TESTS_FOLDER", "LORA_FOUNDRY_TESTS_OWNER"  # of a run of tests, for all its processes
_QUIET = ["-W", "ignore"]
_SAME_FOR_ALL = ("PYTHONUNBUFFERED", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8")
MESSAGE = 1 << 17  # bytes; an environment is some thousands


def open_for(folder: Path, owner: int) -> None:
    """From here on, in this process and all that come of it.

    Args:
        folder: The same for all processes of a run of tests.
        owner: The process with which the nursery ends.
    """
    os.environ.update({_FOLDER: str(folder), _OWNER: str(owner)})


def address(kind: str) -> str:
    """Of the nursery for processes of one kind: a name that no file has."""
    place = hashlib.sha256(f"{os.environ[_FOLDER]}/{os.environ[_OWNER]}".encode()).hexdigest()[:24]
    return f"\0lora-foundry-tests-{place}-{kind}"


def _connected(kind: str) -> socket.socket:
    """A connection to the nursery, which is started where nobody has."""
    try:
        return _connect(kind)
    except ConnectionRefusedError:
        with (Path(os.environ[_FOLDER]) / f"nursery-{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return _connect(kind)
            except ConnectionRefusedError:
                return _begun(kind)


def _connect(kind: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(address(kind))
    except OSError:
        connection.close()
        raise
    return connection


def _begun(kind: str) -> socket.socket:
    log = Path(os.environ[_FOLDER]) / f"nursery-{kind}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", kind, os.environ[_OWNER]],
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            connection = _connect(kind)
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            process.returncode = 0  # it outlives who began it, of which Python would warn
            return connection
    process.kill()
    raise RuntimeError(f"the nursery did not start:\n{log.read_text()[-2000:]}")


def _kind(words: list[str]) -> str:
    return "worker" if {"lora_foundry.worker", "src.predict", "bench.device.child"}.intersection(words) else "launcher"


def _module(args: Any, env: Any) -> list[str] | None:
    """The module and the arguments of ``python -m``, or null where an interpreter has to start."""
    if _OWNER not in os.environ or isinstance(args, str | bytes) or list(args[:1]) != [sys.executable]:
        return None
    words = [os.fspath(word) for word in args[1:]]
    words = words[1:] if words[:1] == ["-P"] else words[2:] if words[:2] == _QUIET else words
    if tuple(args[:2]) == FAKE_WORKER:
        words = ["-m", "tests.launch.fake_worker", *words[1:]]
    if not _is_as_here(os.environ if env is None else env):
        return None
    return words[1:] if len(words) > 1 and words[0] == "-m" else None


def _is_as_here(given: Mapping[str, str]) -> bool:
    """Whether an interpreter would start as the nursery's did, and find the same modules."""
    read = {name for name in {*given, *os.environ} if name.startswith(("PYTHON", "LC_", "LANG"))}
    if any(given.get(name) != os.environ.get(name) for name in read.difference(_SAME_FOR_ALL)):
        return False
    path, own = (set(one.get("PYTHONPATH", "").split(os.pathsep)) for one in (given, os.environ))
    return path <= {*own, "", str(PROJECT_ROOT), str(PROJECT_ROOT / "src")}


class Popen(subprocess.Popen[Any]):
    """See :class:`subprocess.Popen`; what it starts is a child of the nursery, which tells its exit status."""

    _connection: socket.socket | None = None

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:  # as in subprocess
        (close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell, *pipes_and_more) = rest
        words = None if shell or executable or preexec_fn else _module(args, env)
        if words is None:
            super()._execute_child(args, executable, preexec_fn, *rest)  # type: ignore[misc]
            return
        del close_fds, startupinfo, creationflags
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = pipes_and_more[:6]
        new_session = pipes_and_more[11]
        streams = [given if given != -1 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        asked = {
            "words": words,
            "safe_path": "-P" in args[1:2],
            "quiet": list(args[1:3]) == _QUIET,
            "cwd": os.fspath(cwd) if cwd is not None else str(Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "new_session": bool(new_session),
        }
        try:
            self._connection = _connected(_kind(words))
            socket.send_fds(self._connection, [json.dumps(asked).encode()], [*streams, *pass_fds])
            self.pid = int(json.loads(self._connection.recv(MESSAGE)))
            self._child_created = True
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._connection is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        if wait_flags & os.WNOHANG and not select.select([self._connection], [], [], 0)[0]:
            return 0, 0
        told = self._connection.recv(MESSAGE)
        self._connection.close()
        return self.pid, int(json.loads(told))

    def _internal_poll(self, *args: Any, **kwargs: Any) -> int | None:
        if self._connection is None:
            return super()._internal_poll(*args, **kwargs)  # type: ignore[misc, no-any-return]
        if self.returncode is None and (ended := self._try_wait(os.WNOHANG))[0] == self.pid:
            self._handle_exitstatus(ended[1])  # type: ignore[attr-defined]
        return self.returncode


def run(
    args: Any, *, check: bool = False, capture_output: bool = False, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """See :func:`subprocess.run`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(args, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


SUBPROCESS = SimpleNamespace(
    **{name: getattr(subprocess, name) for name in subprocess.__all__} | {"Popen": Popen, "run": run}
)
"""Stands where a module has ``import subprocess``."""
