"""Whether a store can take runs, held against real databases and what MLflow itself says of them."""

from __future__ import annotations

import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow.store.db.utils
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lora_foundry.launch.points.writable import store_problems
from lora_foundry.tracking import checking
from lora_foundry.tracking.addresses import address_of
from lora_foundry.tracking.checking import _schema, database_problems, unanswered
from lora_foundry.tracking.store import open_store
from tests.phrases import NO_HOST
from tests.root import PROJECT_ROOT
from tests.tracking.places import place

BIN = Path(sys.executable).parent
BASH = str(shutil.which("bash"))


@pytest.fixture
def database(tmp_path: Path, fresh_database: Path) -> Path:
    path = tmp_path / "it's 100%?" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(fresh_database, path)
    return path


def _run(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_database_that_mlflow_opens_is_right_and_so_is_none_at_all(database: Path, tmp_path: Path) -> None:
    MlflowClient(tracking_uri=address_of(database)).search_experiments()
    assert database_problems(database, "first light") == []
    assert database_problems(tmp_path / "none.db", "first light") == []
    (tmp_path / "empty.db").touch()
    assert database_problems(tmp_path / "empty.db", "first light") == []


def test_the_schema_is_the_one_that_the_installed_mlflow_writes() -> None:
    known, newest = _schema()
    assert newest == mlflow.store.db.utils._get_latest_schema_revision()
    assert len(known) > 50


def test_an_older_schema_is_refused_with_the_command_that_brings_it_up_to_date(database: Path) -> None:
    _run(database, "UPDATE alembic_version SET version_num = '0584bdc529eb'")
    with pytest.raises(MlflowException, match="out-of-date database schema"):
        MlflowClient(tracking_uri=address_of(database)).search_experiments()
    (line,) = database_problems(database, "first light")
    assert "older MLflow (schema 0584bdc529eb, MLflow 3." in line
    command = line.partition("bring it up to date: ")[2].partition("; or ")[0]
    assert shlex.split(command) == ["mlflow", "db", "upgrade", address_of(database)]


def test_a_newer_schema_is_refused(database: Path) -> None:
    _run(database, "UPDATE alembic_version SET version_num = 'f00fedf00fed'")
    (line,) = database_problems(database, "first light")
    assert "is of a newer MLflow (schema f00fedf00fed, " in line
    assert "tracking=none" in line


def test_what_is_no_database_of_runs_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database at all, but a text of some length" * 50)
    assert "(file is not a database)" in database_problems(text, "x")[0]
    assert "cannot be read as a database of runs" in database_problems(tmp_path, "x")[0], "a folder"
    foreign = tmp_path / "foreign.db"
    _run(foreign, "CREATE TABLE songs (name TEXT)")
    assert "is a database of something else (tables songs)" in database_problems(foreign, "x")[0]
    torn = tmp_path / "torn.db"
    torn.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    assert database_problems(torn, "x")


def test_one_that_somebody_writes_to_is_none(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_foundry.tracking.checking._PATIENCE_S", 0.1)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=DELETE")
        writer.execute("BEGIN EXCLUSIVE")
        assert database_problems(database, "first light") == []
        writer.execute("ROLLBACK")


@pytest.mark.slow
def test_a_deleted_experiment_is_refused_and_the_printed_command_restores_it(database: Path) -> None:
    store = open_store(address_of(database), database.parent, "it's 'first' light")
    store.client.delete_experiment(store.experiment_id)
    (line,) = database_problems(database, "it's 'first' light")
    command = line.partition("restore it: ")[2].partition("; or ")[0]
    assert database_problems(database, "another") == []
    subprocess.run([BASH, "-c", f"PATH={shlex.quote(str(BIN))}:$PATH; {command}"], check=True, capture_output=True)
    assert database_problems(database, "it's 'first' light") == []


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("postgresql+psycopg9://h/db", "is no address of a database"),
        ("mysql://h/db", "needs a package that is not installed"),
        ("http://", NO_HOST),
    ],
)
def test_a_server_is_not_asked_but_its_address_is_read(uri: str, told: str) -> None:
    def problems(uri: str, name: str = "e") -> list[str]:
        return store_problems(place(uri=uri, root="mlruns", experiment=name, flush_s=1.0))

    (line,) = problems(uri)
    assert line.startswith("tracking.uri: ")
    assert told in line
    assert problems("http://127.0.0.1:9") == []
    assert "got a name of 501 letters" in problems("http://127.0.0.1:9", "e" * 501)[0]


@pytest.mark.parametrize("name", ["mlflow", "sqlalchemy"])
def test_a_database_without_what_writes_it_is_a_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = checking.find_spec
    monkeypatch.setattr(checking, "find_spec", lambda asked: None if asked == name else there(asked))
    tracking = place(root="mlruns", experiment="e", flush_s=1.0)
    (line,) = store_problems(tracking)
    assert line.startswith("tracking.root: sqlite:///")
    assert f"needs {name}, not installed here; pip install mlflow, or tracking=none" in line


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the library's
        self.send_response({"/ready/health": 200, "/closed/health": 401, "/broken/health": 503}[self.path])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_is_asked_answers_or_says_why_not(address: str) -> None:
    assert unanswered(f"http://{address}/ready") is None
    assert unanswered(f"http://somebody:secret@{address}/ready/") is None
    assert unanswered(f"http://{address}/closed") is None, "it is there, and wants a password"
    assert unanswered(f"http://{address}/broken") == "it answers with 503"
    assert unanswered(f"postgresql+psycopg://somebody:secret@{address}/db") is None
    assert unanswered("sqlite:////nowhere/mlflow.db") is None
    assert unanswered("databricks") is None


def test_a_server_that_is_away_is_said_so(address: str) -> None:
    host, port = address.split(":")
    with socket.socket() as unused:
        unused.bind((host, 0))
        closed = unused.getsockname()[1]
        assert closed != int(port)
        assert "it does not answer ([Errno 111] Connection refused)" in str(unanswered(f"http://{host}:{closed}"))
        told = str(unanswered(f"mysql://u:secret@{host}:{closed}/db"))
    assert told.startswith(f"{host}:{closed} does not answer (")
    assert "secret" not in told


def test_the_environment_is_named_where_the_address_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    tracking = place(uri="./mlruns", root="mlruns", experiment="e", flush_s=1.0)
    assert store_problems(tracking)[0].startswith("tracking.uri (MLFLOW_TRACKING_URI): got './mlruns', a folder")


@pytest.mark.slow
def test_looking_imports_neither_mlflow_nor_torch(database: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom lora_foundry.tracking.checking import database_problems\n"
        "assert database_problems(Path(sys.argv[1]), 'x') == []\n"
        "print(sorted({'mlflow', 'torch', 'sqlalchemy', 'alembic'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, str(database)]
    assert subprocess.run(words, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT).stdout.strip() == "[]"
