"""Where a training's events go. The worker's spool implements it; tests use a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from src.config.events import Kind


class Sink(Protocol):
    """Takes events (see :mod:`src.config.events`)."""

    root: Path
    """The sweep's folder; paths in events are relative to it."""

    def emit(self, kind: Kind, job: int | None, **values: Any) -> None:  # noqa: ANN401
        """Record one event, with the time of now."""

    def keeps_up(self) -> bool:
        """Whether all events are kept already; False while a full disk makes them wait."""


class ListSink:
    """Keeps events in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[dict[str, Any]] = []

    def emit(self, kind: Kind, job: int | None, **values: Any) -> None:  # noqa: ANN401
        """Append the event to ``events``."""
        self.events.append({"kind": kind, "job": job, **values})

    def keeps_up(self) -> bool:
        """True: memory has room."""
        return True
