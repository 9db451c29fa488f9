"""MLflow's addresses of stores and artifacts, and the paths in them: a path may hold what an address may not."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from lora_foundry.config.paths import SHIPPED
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking.errors import TrackingError

EXPERIMENT = "lora-foundry"
"""Where runs go when neither the configuration nor the environment names an experiment."""
SQLITE = "sqlite:///"
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# MLflow makes a folder of what stands behind "sqlite:///", quotes and all; named by its driver it leaves that alone.
_QUOTED_SQLITE = "sqlite+pysqlite:///"
_PATH = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]*)")
_SCHEME = re.compile(r"([A-Za-z][\w.+-]*):")
_IN_ADDRESSES = re.compile(r"[%?#]")
_MANAGED = ("databricks",)
_PLUGINS = "mlflow.tracking_store"
_ALLOWED = (
    "allowed are a server (http://host:5000), a database (sqlite:////folder/mlflow.db, postgresql://...) and null, "
    "which takes sqlite in tracking.root"
)


def store_of(config: TrackingConfig) -> tuple[str, str]:
    """The store's address and the absolute folder of its artifacts.

    Raises:
        TrackingError: When ``tracking.uri`` is no address that MLflow can write to.
    """
    root = Path(config.root).expanduser().absolute()
    if config.uri is None:
        return address_of(root / "mlflow.db"), str(root)
    scheme = scheme_of(config.uri)
    _refuse_scheme(config.uri, scheme)
    if scheme == "sqlite":
        return address_of(_database(config.uri)), str(root)
    if scheme in SERVERS and not urlsplit(config.uri).hostname:
        msg = f"tracking.uri: got {config.uri!r}, which names no host; {_ALLOWED}"
        raise TrackingError(msg)
    return config.uri, str(root)


def default_store() -> str:
    """Where runs are recorded when nothing else is said: what ``make ui`` shows."""
    return address_of(SHIPPED / "mlruns" / "mlflow.db")


def experiment_of(config: TrackingConfig) -> str:
    """The experiment that runs go to."""
    return config.experiment or EXPERIMENT


def scheme_of(uri: str) -> str:
    """``postgresql`` of ``postgresql+psycopg://host/db``; empty for a path, whatever is no address."""
    found = _SCHEME.match(uri)
    return found[1].lower().partition("+")[0] if found else uri if uri in _MANAGED else ""


def address_of(database: Path) -> str:
    """The address of an sqlite file, as SQLAlchemy reads it: it takes ``%`` for a quote and ``?`` for options.

    Args:
        database: An absolute path.
    """
    path = str(database)
    if not _IN_ADDRESSES.search(path):
        return f"{SQLITE}{path}"
    return f"{_QUOTED_SQLITE}{path.replace('%', '%25').replace('?', '%3F')}"


def database_of(uri: str) -> Path | None:
    """The file behind an sqlite address; None for any other store."""
    found = _PATH.match(uri)
    return Path(unquote(found["path"])) if found else None


def location_of(folder: Path) -> str:
    """A folder of artifacts as MLflow reads it, which takes ``#`` for a fragment and ``?`` for a query.

    Args:
        folder: An absolute path.
    """
    return folder.as_uri() if _IN_ADDRESSES.search(str(folder)) else str(folder)


def shown(uri: str) -> str:
    """The address without a password in it."""
    if "@" not in uri:
        return uri
    parts = urlsplit(uri)
    name = f"{parts.username}:***@" if parts.password else f"{parts.username}@" if parts.username else ""
    return urlunsplit(parts._replace(netloc=f"{name}{parts.netloc.rpartition('@')[2]}"))


def _refuse_scheme(uri: str, scheme: str) -> None:
    if scheme in ("", "file"):
        raise TrackingError(f"tracking.uri: got {uri!r}, a folder, which MLflow 3 no longer writes to; {_ALLOWED}")
    if scheme in (*SERVERS, *DATABASES, *_MANAGED):
        return
    plugins = {plugin.name for plugin in entry_points(group=_PLUGINS)}
    if scheme not in plugins:
        msg = f"tracking.uri: got {shown(uri)!r}, and MLflow knows no stores that begin with {scheme}:; {_ALLOWED}"
        raise TrackingError(msg)


def _database(uri: str) -> Path:
    """The file that a user's sqlite address names, absolute.

    Raises:
        TrackingError: For a database in memory, options, and what is no address of a file.
    """
    found = _PATH.match(uri)
    path = unquote(found["path"]) if found else ""
    if not path or path.startswith((":memory:", "file:")):
        raise TrackingError(
            f"tracking.uri: got {uri!r}, which names no file that lasts; allowed is sqlite:////folder/mlflow.db, "
            "or sqlite:///mlflow.db in the working folder"
        )
    if "?" in uri:
        raise TrackingError(
            f"tracking.uri: got {uri!r}, where options begin at the '?', and none are taken; write a '?' in a path as "
            "%3F and a '%' as %25, or give its folder as tracking.root, where nothing is quoted"
        )
    return Path(path).expanduser().absolute()
