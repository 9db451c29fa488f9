"""How a job ended, as the report needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """One job of a finished sweep.

    Attributes:
        index: The job's number in its sweep.
        name: The adapter's name.
        dir: The job's folder.
        state: ``FINISHED``, ``FAILED`` or ``KILLED``.
        overrides: What the command line set, key to value.
        rank: The adapter's rank.
        summary: The ``summary`` of the job's FINISHED event; null for a job that did not finish.
        error: Why the job failed; null otherwise.
    """

    index: int
    name: str
    dir: Path
    state: str
    overrides: dict[str, str]
    rank: int
    summary: Mapping[str, object] | None
    error: str | None
