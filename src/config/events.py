"""The events that a worker appends to its spool, and how they are read while it still writes.

One JSON object a line. Common keys: ``t`` (unix seconds), ``kind`` (one of :data:`KINDS`) and ``job``
(the job's number, or null for the whole pack).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

Kind = Literal["worker", "state", "metrics", "progress", "tags", "image", "artifact", "memory", "log"]
State = Literal["PENDING", "RUNNING", "FINISHED", "FAILED", "KILLED"]
KINDS: tuple[str, ...] = get_args(Kind)
Event = dict[str, Any]


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The whole lines of ``path`` after byte ``offset``, and the offset behind the last of them.

    A torn last line (its writer is busy, or was killed) stays for the next read; a line that is no JSON
    object, left by a kill in the middle of a write and written past, is passed over.
    """
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    events: list[Event] = []
    for line in data[:end].splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("kind") in KINDS:
            events.append(event)
    return events, offset + end
