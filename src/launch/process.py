"""One worker process: started by module name, told what to do by JSON lines on its stdin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from src.config.paths import PROJECT_ROOT

LOG_FILE = "worker.log"
WORKER_LOST = "the worker"
WORKER_COMMAND = (sys.executable, "-m", "src.worker")
_TAIL_LINES = 20
_TAIL_BYTES = 16_384


class Worker:
    """A running worker in a session of its own, so that the terminal's Ctrl-C reaches the launcher alone."""

    def __init__(self, command: Sequence[str], sweep_dir: Path, cwd: Path, inherit: int) -> None:
        """Start it.

        Args:
            command: The worker's command line, without ``--sweep-dir``.
            sweep_dir: The sweep's folder; stdout and stderr are appended to its ``worker.log``.
            cwd: Folder that relative paths of the configuration start from.
            inherit: Descriptor that the worker keeps open (the lock on the sweep).

        Raises:
            OSError: When the command cannot be started.
        """
        self._log = sweep_dir / LOG_FILE
        self._from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is this project's own or the user's choice
                [*command, "--sweep-dir", str(sweep_dir)],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment(),
                start_new_session=True,
                pass_fds=(inherit,),
            )

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit status, or null while it runs."""
        return self._process.poll()

    def send(self, command: dict[str, Any]) -> None:
        """Write one command; a worker that is gone is noticed by :attr:`code`."""
        pipe = self._pipe()
        rest = memoryview(json.dumps(command).encode() + b"\n")
        try:
            while rest and not pipe.closed:  # a signal may cut a write short
                rest = rest[pipe.write(rest) :]
        except BrokenPipeError:
            return  # the reader ended, which the caller sees by the exit status

    def stop(self) -> None:
        """Ask for a checkpoint and an end within seconds."""
        self.send({"cmd": "stop"})

    def kill(self) -> None:
        """End the worker and its children at once."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def leave(self, patience_s: float) -> int:
        """Let an idle worker go; one that stays longer than ``patience_s`` is killed. Returns its exit status."""
        self.send({"cmd": "exit"})
        self._pipe().close()
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def last_words(self) -> str:
        """The end of what this worker wrote to its log."""
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._from, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").rstrip().splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def death(self) -> str:
        """How it ended, in words."""
        code = self.code or 0
        if code >= 0:
            return f"{WORKER_LOST} ended with status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = " (often the system's answer to too little memory)" if name == "SIGKILL" else ""
        return f"{WORKER_LOST} was ended by {name}{hint}"

    def _pipe(self) -> FileIO:
        pipe = self._process.stdin
        if not isinstance(pipe, FileIO):
            msg = "the worker was started without a pipe of its own"
            raise TypeError(msg)
        return pipe


def _environment() -> dict[str, str]:
    path = os.environ.get("PYTHONPATH")
    parts = [str(PROJECT_ROOT), *([path] if path else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(parts), "PYTHONUNBUFFERED": "1"}
