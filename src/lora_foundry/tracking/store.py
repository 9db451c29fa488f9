"""Opening MLflow: a database that one process creates, or a server."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import tempfile
import warnings
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.surroundings import past_proxies
from lora_foundry.tracking.addresses import address_of, database_of, location_of
from lora_foundry.tracking.errors import TrackingError
from lora_foundry.tracking.notes import AXIS, NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCK_WAIT_S = 60.0
_LONGEST_FOLDER = 100  # MLflow takes names of 500 letters, disks take 255 bytes
# The UI then opens with runs and charts, not with the pages for language models.
_KIND, _TRAINING = "mlflow.experimentKind", "custom_model_development"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The writer tries again by itself, and says so; MLflow's own four minutes of silence would hide the trouble.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """An open store.

    Attributes:
        client: MLflow's client.
        experiment_id: The experiment that runs go to.
    """

    client: MlflowClient
    experiment_id: str


def open_store(uri: str, root: Path, experiment: str) -> Store:
    """Connect, creating database and experiment where they are missing.

    Eight processes that open a fresh sqlite database at once make seven of them fail (MLflow 3.17 runs its
    migrations in each), so the first opening happens under a lock, and in WAL mode, which lets ``mlflow ui``
    read while a sweep writes.

    Raises:
        TrackingError: When the experiment was deleted in the UI.
        mlflow.exceptions.MlflowException: When the store cannot be reached.
        OSError: When the folder or the database cannot be written.
    """
    prepare_environment()
    database = database_of(uri)
    if database is None:
        return _connect(uri, None, experiment)
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_suffix(".lock"), timeout=_LOCK_WAIT_S):
        if not database.exists():
            _create(database, root / "artifacts" / "default")
        _use_write_ahead_log(database)
        folder = re.sub(r"[^A-Za-z0-9._-]+", "-", experiment)[:_LONGEST_FOLDER]
        return _connect(uri, location_of(root / "artifacts" / folder), experiment)


def prepare_environment() -> None:
    """Settings that MLflow reads from the environment; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    past_proxies()
    # MLflow prints a stack trace for each refused request; the writer reports the same in one line.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"mlflow\..*")


def _create(database: Path, artifacts: Path) -> None:
    """Make the tables aside and rename: a kill in MLflow's seconds of migrations leaves no half database."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(dir=database.parent, prefix=".new-") as folder:
        fresh = Path(folder) / database.name
        SqlAlchemyStore(address_of(fresh), location_of(artifacts)).engine.dispose()
        fresh.replace(database)


def _use_write_ahead_log(database: Path) -> None:
    with closing(sqlite3.connect(database, timeout=20.0)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            connection.execute("PRAGMA journal_mode=WAL")


def _connect(uri: str, artifacts: str | None, experiment: str) -> Store:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        try:
            created = client.create_experiment(experiment, artifacts, tags={_KIND: _TRAINING, NOTE: AXIS})
            return Store(client=client, experiment_id=created)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # Another sweep created it between the two calls.
        found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            f"tracking.experiment={experiment} was deleted in {uri}: restore it (mlflow experiments restore) "
            "or choose another name"
        )
    if _KIND not in found.tags:  # one that was not made here
        client.set_experiment_tag(found.experiment_id, _KIND, _TRAINING)
    return Store(client=client, experiment_id=str(found.experiment_id))
