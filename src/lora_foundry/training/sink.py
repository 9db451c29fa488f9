"""Where a training's events go. The worker's spool implements it; tests use a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lora_foundry.config.warned import Warned, tags_of
from lora_foundry.wire.events import Event, LogEvent, TagsEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_foundry.training.member import Member


class Sink(Protocol):
    """Takes events (see :mod:`lora_foundry.wire.events`)."""

    root: Path
    """The sweep's folder; paths in events are relative to it."""

    def emit(self, event: Event) -> None:
        """Record one event."""

    def keeps_up(self) -> bool:
        """Whether all events are kept already; False while a full disk makes them wait."""


def warn(sink: Sink, job: int, topic: str, text: str) -> None:
    """Warn of something while a job is prepared or trains: a line, and the tag ``warning.<topic>`` on its run.

    Args:
        sink: Takes both.
        job: The job's number.
        topic: A slug, ``captions``; a later warning of the same topic takes the place of an earlier one on the run.
        text: What was got, and what it leads to, in one line.
    """
    sink.emit(LogEvent(job=job, level="warning", message=text))
    sink.emit(TagsEvent(job=job, values=tags_of([Warned(topic=topic, text=text)])))


def warn_all(sink: Sink, job: int, warnings: Sequence[Warned], *, aloud: bool = True) -> None:
    """Warn of several things at once: a line each, and a tag for each topic, in which none takes another's place.

    Args:
        sink: Takes both.
        job: The job's number.
        warnings: In the order in which they are said.
        aloud: False leaves out the lines, where they were said of another job already.
    """
    for one in warnings if aloud else ():
        sink.emit(LogEvent(job=job, level="warning", message=one.text))
    if warnings:
        sink.emit(TagsEvent(job=job, values=tags_of(warnings)))


def stage(sink: Sink, what: str, members: Sequence[Member]) -> None:
    """Tell what is done between two steps, which may take longer than many of them; the next progress ends it.

    Args:
        sink: Takes the message: level ``info`` at a member's end, else ``stage``, which is worth no line of its own.
        what: ``scoring``.
        members: Whose turn it is.
    """
    level = "info" if any(member.done for member in members) else "stage"
    whom = members[0].name if len(members) == 1 else f"{len(members)} adapters"
    sink.emit(LogEvent(level=level, message=f"{what} {whom}"))


class ListSink:
    """Keeps events in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Append the event to ``events``."""
        self.events.append(event)

    def keeps_up(self) -> bool:
        """True: memory has room."""
        return True
