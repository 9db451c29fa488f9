"""The events that a worker appends to its spool, and how they are read while it still writes.

One JSON object a line. Common keys: ``t`` (unix seconds), ``kind`` (one of :data:`KINDS`) and ``job``
(the job's number, or null for the whole pack).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from src.config.stored import Shape, has, is_mapping, is_number, is_text, is_whole, list_of, or_null

Kind = Literal["worker", "state", "metrics", "progress", "tags", "image", "artifact", "memory", "log"]
State = Literal["PENDING", "RUNNING", "FINISHED", "FAILED", "KILLED"]
KINDS: tuple[str, ...] = get_args(Kind)
Event = dict[str, Any]

_COMMON: Mapping[str, Shape] = {"t": is_number, "job": or_null(is_whole)}
_FIELDS: Mapping[str, Mapping[str, Shape]] = {
    "worker": {"state": is_text, "jobs": or_null(list_of(is_whole))},
    "state": {"job": is_whole, "state": is_text, "error": or_null(is_text), "summary": or_null(is_mapping)},
    "metrics": {"job": is_whole, "step": is_whole, "samples": is_whole, "values": is_mapping},
    "progress": {"job": is_whole, "step": is_whole, "total": is_whole},
    "tags": {"values": is_mapping},
    "image": {
        **{"job": is_whole, "step": is_whole, "samples": is_whole, "key": is_text, "path": is_text},
        **{"prompt": is_text, "seed": is_whole, "scale": is_number},
    },
    "artifact": {"job": is_whole, "path": is_text},
    "memory": {"job": is_whole},
    "log": {"message": is_text},
}


def is_event(value: object) -> bool:
    """Whether a line of a spool is an event, with all that its readers take from it."""
    kind = value.get("kind") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in _FIELDS and has(value, _COMMON) and has(value, _FIELDS[kind])


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The whole lines of ``path`` after byte ``offset``, and the offset behind the last of them.

    A torn last line (its writer is busy, or was killed) stays for the next read; a line that is no event, left by a
    kill in the middle of a write and written past, is passed over. Of what is no readable file nothing is told.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return [], offset
    end = data.rfind(b"\n") + 1
    events: list[Event] = []
    for line in data[:end].splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if is_event(event):
            events.append(event)
    return events, offset + end
