"""A PostgreSQL server of a test's own, installed where it is missing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.debian import install

_NOBODY = 65534  # the server refuses root


class Postgres:
    """A server with one database, on a port of its own; it ends with the ``with``."""

    def __init__(self) -> None:
        self._bin = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self._port = one.getsockname()[1]

    @property
    def address(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        if os.getuid() == 0:
            os.chown(self._folder, _NOBODY, _NOBODY)
        self._run("initdb", "-A", "trust", "--no-sync", "-U", "postgres", "-D", str(self._folder / "data"))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        options = (
            f"-p {self._port} -c listen_addresses=127.0.0.1 -c fsync=off -c unix_socket_directories={self._folder}"
        )
        self._pg_ctl("-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """At once, as a machine that is switched off."""
        self._pg_ctl("-m", "immediate", "stop")

    def _pg_ctl(self, *words: str) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), *words)

    def _run(self, program: str, *words: str) -> None:
        before: Sequence[str] = ()
        if os.getuid() == 0:
            before = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
        subprocess.run(
            [*before, str(self._bin / program), *words], check=True, cwd=self._folder, stdout=subprocess.DEVNULL
        )


def _binaries() -> Path:
    """The folder of the newest installed version; Debian's package, where there is none."""
    if not (found := _installed()):
        install("postgresql")
        found = _installed()
    return found[-1]


def _installed() -> list[Path]:
    return sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
