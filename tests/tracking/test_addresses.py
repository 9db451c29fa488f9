"""Addresses of stores, held against SQLAlchemy's reading of them and against a real store and server."""

from __future__ import annotations

import json
import shlex
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from bench.faults.server import Server
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.launch.screen.table import ui_command
from lora_foundry.tracking import SweepWriter, TrackingError
from lora_foundry.tracking.addresses import address_of, database_of, shown, store_of
from tests import nursery
from tests.phrases import NO_HOST
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep
from tests.tracking.places import place

MakeSweep = Callable[..., Sweep]
NAMES = [
    "plain",
    "ml runs",
    "müller",
    "a%20b",
    "100%",
    "what?x=1",
    "c#1",
    "it's",
    "a&b;c",
    "50%?#é z",
    "[x]",
    "a+b",
    "@h:1",
]


def _tracking(uri: str | None, root: str = "mlruns") -> TrackingConfig:
    return place(uri=uri, root=root, experiment="first light")


@pytest.mark.parametrize("name", NAMES)
def test_sqlalchemy_reads_the_path_out_of_the_address(name: str) -> None:
    path = Path("/tmp") / name / "mlflow.db"
    address = address_of(path)
    url = make_url(address)
    assert (url.database, dict(url.query), url.get_backend_name()) == (str(path), {}, "sqlite")
    assert database_of(address) == path
    assert store_of(_tracking(address))[0] == address, "what is printed can be given as tracking.uri"
    assert store_of(_tracking(None, f"/tmp/{name}"))[0] == address


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://", NO_HOST),
        ("https:///path", NO_HOST),
        ("foo:bar", "MLflow knows no stores that begin with foo:"),
        ("htp://host:5000", "MLflow knows no stores that begin with htp:"),
        ("uc:main", "MLflow knows no stores that begin with uc:"),
        ("mlruns", "a folder, which MLflow 3 no longer writes to"),
        ("./ml?runs", "a folder"),
        ("file:///tmp/x", "a folder"),
        ("sqlite://", "names no file that lasts"),
        ("sqlite:mlflow.db", "names no file that lasts"),
        ("sqlite:///:memory:", "names no file that lasts"),
        ("sqlite:////tmp/ml?x=1/mlflow.db", "write a '?' in a path as %3F"),
    ],
)
def test_what_is_no_address_is_refused_with_what_is(uri: str, told: str) -> None:
    with pytest.raises(TrackingError) as error:
        store_of(_tracking(uri))
    assert str(error.value).startswith(f"tracking.uri: got {uri!r}, ")
    assert told in str(error.value)
    assert "sqlite:///" in str(error.value)


def test_relative_databases_and_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store_of(_tracking("sqlite:///my.db"))[0] == f"sqlite:///{tmp_path}/my.db"
    assert store_of(_tracking("sqlite+pysqlite:///my.db"))[0] == f"sqlite:///{tmp_path}/my.db"
    assert store_of(_tracking("sqlite:///~/my.db"))[0] == f"sqlite:///{tmp_path}/home/my.db"
    assert store_of(_tracking(None, "~/ml")) == (f"sqlite:///{tmp_path}/home/ml/mlflow.db", f"{tmp_path}/home/ml")
    for server in ("http://h:5000", "https://h/x", "databricks", "databricks://me", "postgresql://u@h/db"):
        assert store_of(_tracking(server))[0] == server


def test_no_password_is_shown() -> None:
    assert shown("postgresql://me:secret@h:5432/db") == "postgresql://me:***@h:5432/db"
    assert shown("http://me@h") == "http://me@h"
    assert shown("http://h:5000") == "http://h:5000"


ODD = ["what?x=1", "ml %20é?#z"]


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest, tmp_path: Path, fresh_database: Path) -> Path:
    """A folder whose name an address may not hold, with an empty database in it."""
    root = tmp_path / "odd" / str(request.param)
    root.mkdir(parents=True)
    shutil.copy(fresh_database, root / "mlflow.db")
    return root


def _record(sweep: Sweep, root: Path) -> None:
    sweep.state(0, "RUNNING")
    sweep.metrics(0, 1)
    sweep.picture(0, 1)
    sweep.state(0, "FINISHED")
    writer = SweepWriter(sweep.dir, sweep.records, _tracking(None, str(root)), sweep.id, COMMAND)
    writer.start()
    writer.close({0: "FINISHED"})
    assert writer.problem is None


@pytest.mark.slow
def test_runs_and_their_files_are_recorded_there_and_nowhere_else(make_sweep: MakeSweep, odd: Path) -> None:
    sweep = make_sweep(jobs=1)
    _record(sweep, odd)
    recorded = Recorded(sweep)
    assert recorded.statuses() == {-1: "FINISHED", 0: "FINISHED"}
    assert recorded.images(0)
    assert list(odd.glob("artifacts/first-light/*/artifacts/config/config.yaml"))
    assert [path.name for path in odd.parent.iterdir()] == [odd.name], "no folder of a half-read name"


@pytest.mark.slow
def test_a_database_is_made_there(make_sweep: MakeSweep, tmp_path: Path) -> None:
    root = tmp_path / "odd" / "a%20b ?#"
    _record(make_sweep(jobs=1), root)
    assert (root / "mlflow.db").is_file()
    assert [path.name for path in root.parent.iterdir()] == [root.name]


@pytest.fixture
def served(odd: Path, tmp_path: Path) -> Iterator[Server]:
    words = shlex.split(ui_command(_tracking(None, str(odd))))
    assert words[:3] == ["mlflow", "ui", "--backend-store-uri"]
    (tmp_path / "files").mkdir()
    server = Server(tmp_path / "files", address=words[3], popen=nursery.Popen)
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD[1:], indirect=True)
def test_the_ui_that_is_printed_opens_there_and_shows_runs_and_files(
    make_sweep: MakeSweep, odd: Path, served: Server
) -> None:
    sweep = make_sweep(jobs=1)
    _record(sweep, odd)
    assert b"<html" in _fetched(f"{served.uri}/")
    run = Recorded(sweep).children[0].info.run_id
    found = json.loads(_fetched(f"{served.uri}/api/2.0/mlflow/runs/get?run_id={run}"))
    assert found["run"]["info"]["status"] == "FINISHED"
    assert _fetched(f"{served.uri}/get-artifact?path=config/config.yaml&run_uuid={run}") == b"lora: {rank: 4}\n"


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30.0) as answer:  # noqa: S310 - our own server
        return bytes(answer.read())
