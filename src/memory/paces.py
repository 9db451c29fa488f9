"""How long steps took: noted by workers, and what later plans predict times with."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from src.config.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from src.config import JobConfig

FILE = "paces.jsonl"
_LAST = 2000  # lines that are looked at; older ones are of other times


def note_paces(config: JobConfig, device: str, threads: int, paces: Sequence[tuple[int, int, float]]) -> None:
    """Record (members, rows, seconds of a step) of a pack of ``config``'s kind on ``device``, with so many threads.

    What cannot be written is left out: the next pack measures again.
    """
    if not paces:
        return
    line = {"t": time.time(), "kind": kind_of(config), "device": device, "threads": threads}
    lines = "".join(json.dumps(line | {"members": m, "rows": r, "s": round(s, 6)}) + "\n" for m, r, s in paces)
    path = path_of(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(lines)
    except OSError:
        return


def path_of(config: JobConfig) -> Path:
    """Where they are kept."""
    return Path(config.data.cache_dir).expanduser() / "memory" / FILE
