"""Opening a store: made once, by whoever comes first."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking import SweepWriter, TrackingError
from lora_foundry.tracking.addresses import store_of
from lora_foundry.tracking.store import open_store
from lora_foundry.tracking.trackfile import open_track_file, read_track_file
from tests.tracking.fake_sweep import COMMAND, Sweep
from tests.tracking.places import place

MakeSweep = Callable[..., Sweep]
ROOT = Path(__file__).resolve().parents[2]

# One process imports MLflow and forks, so that eight of them open the database in the same moment.
EIGHT_OPENERS = """
import os, sys
from pathlib import Path
from lora_foundry.tracking.store import open_store, prepare_environment
prepare_environment()
import mlflow.store.tracking.sqlalchemy_store
root = Path(sys.argv[1])
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        store = open_store(f"sqlite:///{root / 'mlflow.db'}", root, "first light")
        store.client.create_run(store.experiment_id)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.mark.slow
def test_eight_processes_open_a_fresh_database_at_once(tmp_path: Path) -> None:
    root = tmp_path / "ml runs"
    answer = subprocess.run(
        [sys.executable, "-c", EIGHT_OPENERS, str(root)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stderr == ""
    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("first light")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 8
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.artifact_location == str(root / "artifacts" / "first-light")
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_deleted_experiment_is_named_with_the_way_out(make_sweep: MakeSweep, tracking: TrackingConfig) -> None:
    store = open_store(store_of(tracking)[0], Path(tracking.root), "first light")
    store.client.delete_experiment(store.experiment_id)
    sweep = make_sweep(jobs=1)
    writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
    writer.start()
    writer.close({0: "FINISHED"})
    assert writer.problem is not None
    assert "tracking.experiment=first light was deleted" in writer.problem
    with pytest.raises(TrackingError, match="restore it"):
        open_store(store_of(tracking)[0], Path(tracking.root), "first light")


def test_a_sweep_goes_on_in_its_own_store_from_whatever_folder(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(jobs=1)
    relative = place(root="mlruns", experiment="e")
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    track = open_track_file(sweep.dir, relative, sweep.id, COMMAND)
    track.runs["0"] = "some-run"
    track.save(sweep.dir)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_track_file(sweep.dir, relative, sweep.id, COMMAND).uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    other = place(root="mine", experiment="e")
    moved = open_track_file(sweep.dir, other, sweep.id, COMMAND)
    assert moved.uri == f"sqlite:///{tmp_path}/elsewhere/mine/mlflow.db"
    assert moved.runs == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no tracking.json in .*expected the folder of a sweep"),
        ("{", "is no JSON .*; python -m src.resume writes it anew"),
        ("[]", "does not hold what was written there; python -m src.resume writes it anew"),
    ],
)
def test_a_folder_without_a_readable_tracking_file_is_named(tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / "tracking.json").write_text(text)
    with pytest.raises(TrackingError, match=told):
        read_track_file(tmp_path)
