"""MLflow's own server, to be stopped and started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

START_S = 90.0


class Server:
    """MLflow's own server in a process group of its own."""

    def __init__(
        self,
        folder: Path,
        database: Path | None = None,
        *,
        address: str | None = None,
        popen: type[subprocess.Popen[Any]] = subprocess.Popen,
    ) -> None:
        """Find a free port; nothing runs yet. The store is a database, or has an address; ``popen`` starts it."""
        self._popen = popen
        self._folder, self._address = folder, address or f"sqlite:///{database}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        words = ["--backend-store-uri", self._address, "--artifacts-destination", str(self._folder)]
        words += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = self._popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError((self._folder / "server.log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it at once, workers included."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2.0) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
