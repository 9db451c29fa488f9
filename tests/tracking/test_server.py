"""A tracking server that goes away and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bench.faults.server import START_S, Server
from lora_foundry.commands import track
from lora_foundry.tracking import SweepWriter
from tests import nursery
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep
from tests.tracking.places import place

MakeSweep = Callable[..., Sweep]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Server]:
    """One server for the module, not yet started."""
    folder = tmp_path_factory.mktemp("server")
    database = folder / "mlflow.db"
    database.write_bytes(fresh_database.read_bytes())
    server = Server(folder, database, popen=nursery.Popen)
    yield server
    server.stop()


def test_training_goes_on_while_the_server_is_away_and_everything_arrives_later(
    make_sweep: MakeSweep, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = place(uri=server.uri, root=str(tmp_path), experiment="far away")
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
    _wait(lambda: _steps(client, "rank=4") == [4], writer)

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
