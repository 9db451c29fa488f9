"""A tracking server that goes away and comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from src import track
from src.config.schema import TrackingConfig
from src.tracking import SweepWriter
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep

MakeSweep = Callable[..., Sweep]
START_S = 90.0

pytestmark = pytest.mark.slow


class Server:
    """MLflow's own server in a process group of its own."""

    def __init__(self, folder: Path, database: Path) -> None:
        """Find a free port; nothing runs yet."""
        self._folder, self._database = folder, database
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        words = ["--backend-store-uri", f"sqlite:///{self._database}", "--artifacts-destination", str(self._folder)]
        words += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()[-2000:]
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Server]:
    """One server for the module, not yet started."""
    folder = tmp_path_factory.mktemp("server")
    database = folder / "mlflow.db"
    database.write_bytes(fresh_database.read_bytes())
    server = Server(folder, database)
    yield server
    server.stop()


def test_training_goes_on_while_the_server_is_away_and_everything_arrives_later(
    make_sweep: MakeSweep, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = TrackingConfig(enabled=True, uri=server.uri, root=str(tmp_path), experiment="far away", flush_s=0.1)
    sweep = make_sweep(jobs=2)
    writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
    writer.start()
    sweep.state(0, "RUNNING")
    sweep.metrics(0, 1)
    _wait(lambda: writer.problem is not None, writer)
    assert writer.problem is not None
    assert writer.problem.startswith("MLflow is away, training goes on: ")

    server.start()
    _wait(lambda: writer.problem is None, writer)
    client = MlflowClient(tracking_uri=server.uri)
    _wait(lambda: _steps(client, "flat-rank4") == [4], writer)

    server.stop()
    sweep.metrics(0, 2)
    sweep.picture(0, 2)
    _wait(lambda: writer.problem is not None, writer)
    writer.patience_s = 1.0
    begun = time.monotonic()
    writer.close({0: "FINISHED", 1: "FAILED"})
    assert time.monotonic() - begun < 30.0
    assert writer.problem is not None
    assert f"python -m src.track {sweep.dir}" in writer.problem
    assert track.main([str(sweep.dir)]) == 1
    assert "not logged, try again later" in capsys.readouterr().err

    server.start()
    for _ in range(2):
        assert track.main([str(sweep.dir)]) == 0
        recorded = Recorded(sweep)
        assert recorded.statuses() == {-1: "FAILED", 0: "FINISHED", 1: "FAILED"}
        assert recorded.steps(0, "train/loss") == [4, 8]
        assert len(recorded.images(0)) == 2


def _wait(condition: Callable[[], bool], writer: SweepWriter) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, writer.problem
        time.sleep(0.1)


def _steps(client: MlflowClient, name: str) -> list[int]:
    experiment = client.get_experiment_by_name("far away")
    runs = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'") if experiment else []
    return [metric.step for run in runs for metric in client.get_metric_history(run.info.run_id, "train/loss")]
