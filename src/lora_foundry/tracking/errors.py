"""What can go wrong between a spool and MLflow, sorted by whether waiting helps."""

from __future__ import annotations

from lora_foundry.tracking.tags import shortened

_LONGEST_LINE = 400


class TrackingError(ValueError):
    """The configuration or the folder cannot be tracked as asked; trying again changes nothing."""


class DamagedError(TrackingError):
    """``tracking.json`` cannot be read: the store tells what it holds, so the sweep can be recorded without it."""


class SweepBusyError(Exception):
    """Another process records this sweep at the moment."""


def passing_errors() -> tuple[type[Exception], ...]:
    """Errors that may be gone a moment later: a server away, a database locked, a disk full.

    Call it after MLflow has been imported, or where importing it is acceptable.
    """
    import sqlite3

    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, SweepBusyError)


def in_one_line(error: BaseException) -> str:
    """The error's text without line breaks; of a long one the middle goes, since the advice stands at its end."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, _LONGEST_LINE)
