"""Stores and sweeps of a test's own."""

from __future__ import annotations

import shutil
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking import SweepWriter
from lora_foundry.tracking.store import open_store, prepare_environment
from tests.tracking.fake_sweep import COMMAND, Sweep, a_job_config
from tests.tracking.places import place

prepare_environment()
with warnings.catch_warnings():
    # MLflow 3.17 uses what SQLAlchemy 2.1 calls deprecated; it says so once, at this import.
    warnings.simplefilter("ignore")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with MLflow's tables, which take seconds to make."""
    root = tmp_path_factory.mktemp("template")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    open_store(uri, root, "template")
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return root / "mlflow.db"


@pytest.fixture
def tracking(tmp_path: Path, fresh_database: Path) -> TrackingConfig:
    """A sqlite store of the test's own, in a folder with a space in its name."""
    root = tmp_path / "ml runs"
    root.mkdir()
    shutil.copy(fresh_database, root / "mlflow.db")
    return place(root=str(root), experiment="first light")


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., Sweep]:
    """Makes a sweep's folder: ``make_sweep(name, jobs=3)``."""
    return lambda name="10-00-00-abc", jobs=3: Sweep(tmp_path / "multirun" / name, a_job_config(), jobs)


@pytest.fixture
def record(tracking: TrackingConfig) -> Callable[..., SweepWriter]:
    """Records a sweep from start to end: ``record(sweep, {0: "FINISHED"})``."""

    def run(sweep: Sweep, states: dict[int, str]) -> SweepWriter:
        writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
        writer.start()
        writer.close(states)
        return writer

    return run
