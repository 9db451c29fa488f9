"""Whether a store can take runs, seen without MLflow: its import takes seconds, and a person waits for the answer."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from contextlib import closing
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from lora_foundry.config.quoting import shell
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.config.surroundings import past_proxies
from lora_foundry.tracking.addresses import DATABASES, SERVERS, address_of, experiment_of, scheme_of, shown, store_of
from lora_foundry.tracking.environment import URI
from lora_foundry.tracking.errors import TrackingError, in_one_line

_LONGEST_EXPERIMENT = 500  # letters; MLflow's own limit (3.17)
_PATIENCE_S = 5.0
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_BROKEN = 500  # from here on an HTTP status says that a server is
_REVISION = re.compile(r'^(down_)?revision\s*=\s*"(\w+)"', re.MULTILINE)
_NONE = "tracking=none to record nothing"
_ELSEWHERE = f"give another place (tracking.root), or {_NONE}"
_NEEDED = ("mlflow", "sqlalchemy")  # of a store that is a database


def address_problems(tracking: TrackingConfig) -> list[str]:
    """A line for each reason why ``tracking`` names no place where runs can be; a server is not asked."""
    problems = []
    letters = len(experiment_of(tracking))
    if letters > _LONGEST_EXPERIMENT:
        problems.append(f"tracking.experiment: got a name of {letters} letters, allowed is up to {_LONGEST_EXPERIMENT}")
    try:
        uri, _ = store_of(tracking)
    except TrackingError as error:
        return [*problems, str(error).replace("tracking.uri", key_of(tracking), 1)]
    return problems + _driver_problems(uri, key_of(tracking))


def key_of(tracking: TrackingConfig) -> str:
    """The key that says where the store is; with the variable that it was taken from."""
    if tracking.uri is None:
        return "tracking.root"
    return f"tracking.uri ({URI})" if os.environ.get(URI) == tracking.uri else "tracking.uri"


def database_problems(database: Path, experiment: str) -> list[str]:
    """A line for each reason why an sqlite file takes no runs of ``experiment``; one that is not there takes them.

    Args:
        database: Below a folder that can be read.
        experiment: The experiment's name.
    """
    if not database.exists() or (database.is_file() and database.stat().st_size == 0):
        return []
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", timeout=_PATIENCE_S, uri=True)) as store:
            tables = {str(name) for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "alembic_version" not in tables or "experiments" not in tables:
                return _foreign(database, sorted(tables))
            revisions = [str(one) for (one,) in store.execute("SELECT version_num FROM alembic_version")]
            problems = _schema_problems(database, revisions)
            return problems or _experiment_problems(store, database, experiment)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return []  # somebody writes: it is a database, and the writer waits for its turn
        return [f"{database} cannot be read as a database of runs ({in_one_line(error)}); {_ELSEWHERE}"]


def unanswered(uri: str) -> str | None:
    """Why a server, or a database behind one, does not answer within seconds; null for one that does, and for a file.

    Args:
        uri: An address that nothing is wrong with.
    """
    parts, scheme = urlsplit(uri), scheme_of(uri)
    if scheme in SERVERS:
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return _server_problem(f"{bare.rstrip('/')}/health")
    port = _PORTS.get(scheme)
    if port is None or parts.hostname is None:
        return None
    try:
        with socket.create_connection((parts.hostname, parts.port or port), _PATIENCE_S):
            return None
    except OSError as error:
        return f"{parts.hostname}:{parts.port or port} does not answer ({in_one_line(error)})"


def _server_problem(address: str) -> str | None:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    past_proxies()
    try:
        with urlopen(address, timeout=_PATIENCE_S):  # noqa: S310  # http or https
            return None
    except HTTPError as error:  # it wants a name and a password, or is older than that page
        answers = error.code < _BROKEN
        error.close()
        return None if answers else f"it answers with {error.code}"
    except (OSError, ValueError, HTTPException) as error:
        return f"it does not answer ({in_one_line(getattr(error, 'reason', None) or error)})"


def _foreign(database: Path, tables: list[str]) -> list[str]:
    if not tables:
        return []
    found = ", ".join(tables[:3]) + (", ..." if len(tables) > 3 else "")
    return [f"{database} is a database of something else (tables {found}); {_ELSEWHERE}"]


def _schema_problems(database: Path, revisions: list[str]) -> list[str]:
    known, newest = _schema()
    if not known or revisions == [newest]:
        return []
    got, own = revisions[0] if revisions else "none", f"MLflow {version('mlflow')} here writes {newest}"
    if got in known:
        upgrade = shell(["mlflow", "db", "upgrade", address_of(database)])
        advice = f"copy the file, then bring it up to date: {upgrade}"
        return [f"{database} is of an older MLflow (schema {got}, {own}); {advice}; or {_ELSEWHERE}"]
    return [f"{database} is of a newer MLflow (schema {got}, {own}); use that version, or {_ELSEWHERE}"]


def _experiment_problems(store: sqlite3.Connection, database: Path, experiment: str) -> list[str]:
    found = store.execute("SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?", (experiment,))
    deleted = [str(number) for number, stage in found if stage == "deleted"]
    if not deleted:
        return []
    restore = shell(["mlflow", "experiments", "restore", "--experiment-id", deleted[0]])
    return [
        f"the experiment {experiment!r} was deleted in {database}; restore it: "
        f"{URI}={shell([address_of(database)])} {restore}; or choose another name (tracking.experiment)"
    ]


@cache
def _schema() -> tuple[frozenset[str], str]:
    """The revisions that the installed MLflow knows, and the one it writes; empty where they cannot be told."""
    found = find_spec("mlflow")  # which imports nothing
    folder = Path((found.submodule_search_locations or [""])[0] if found else "") / "store/db_migrations/versions"
    known: set[str] = set()
    before: set[str] = set()
    for file in folder.glob("*.py"):
        for down, revision in _REVISION.findall(file.read_text(encoding="utf-8")):
            (before if down else known).add(revision)
    newest = known - before
    return (frozenset(known), newest.pop()) if len(newest) == 1 else (frozenset(), "")


def _driver_problems(uri: str, key: str) -> list[str]:
    """What a database needs besides MLflow, and whether SQLAlchemy understands the address."""
    if scheme_of(uri) not in DATABASES:
        return []
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        return [
            f"{key}: {shown(uri)} needs {' and '.join(missing)}, not installed here; pip install mlflow, or {_NONE}"
        ]
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        return [f"{key}: got {shown(uri)!r}, which is no address of a database ({in_one_line(error)})"]
    except ImportError as error:
        return [f"{key}: {shown(uri)} needs a package that is not installed ({in_one_line(error)})"]
    return []
