"""How long steps took: noted by workers, and what later plans predict times with."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lora_foundry.config.kinds import kind_of
from lora_foundry.wire.fields import Form

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lora_foundry.config import JobConfig

FILE = "paces.jsonl"
_RECENT = 9  # measurements that a time is the median of
_LAST = 2000  # lines that are looked at; older ones are of other times


@dataclass(frozen=True, kw_only=True, slots=True)
class NotedPace:
    """A line of the file: what a step took.

    Attributes:
        t: When it was noted (Unix seconds).
        kind: Of the step (:func:`lora_foundry.config.kinds.kind_of`).
        device: Name of the device.
        threads: Of the worker.
        members: Of the pack.
        rows: Samples of the step.
        s: Seconds.
    """

    t: float
    kind: str
    device: str
    threads: int
    members: int
    rows: int
    s: float


_FORM = Form(NotedPace)


def note_paces(config: JobConfig, device: str, threads: int, paces: Sequence[tuple[int, int, float]]) -> None:
    """Record (members, rows, seconds of a step) of a pack of ``config``'s kind on ``device``, with so many threads.

    What cannot be written is left out: the next pack measures again.
    """
    if not paces:
        return
    now, kind = time.time(), kind_of(config)
    noted = (
        NotedPace(t=now, kind=kind, device=device, threads=threads, members=members, rows=rows, s=round(seconds, 6))
        for members, rows, seconds in paces
    )
    lines = "".join(json.dumps(_FORM.written(one)) + "\n" for one in noted)
    path = path_of(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(lines)
    except OSError:
        return


class Paces:
    """What was noted where ``config`` keeps its caches.

    Args:
        config: Any job of a sweep.
    """

    def __init__(self, config: JobConfig) -> None:
        self._noted: dict[tuple[str, str], list[NotedPace]] = {}
        for line in _lines(path_of(config)):
            self._noted.setdefault((line.kind, line.device), []).append(line)

    def step_s(  # what a step is
        self,
        config: JobConfig,
        device: str,
        threads: int | None,
        members: int,
        rows: int,
        shape: Callable[[float], float],
    ) -> tuple[float, Literal["measured", "estimated"]] | None:
        """Seconds of a step; measured where such a step was, else carried over from the nearest by ``shape``.

        Args:
            config: Of one of the members.
            device: Name of the device.
            threads: Of the worker; null for any.
            members: Of the pack.
            rows: Samples of the step.
            shape: Relative time of a step of so many rows.
        """
        noted = self._noted.get((kind_of(config), device), [])
        fitting = [line for line in noted if threads in (None, line.threads)]
        if not fitting:
            return None
        exact = [line.s for line in fitting if (line.members, line.rows) == (members, rows)]
        if exact:
            return statistics.median(exact[-_RECENT:]), "measured"
        nearest = min(fitting, key=lambda line: (abs(math.log(line.rows / rows)), -line.t))
        return nearest.s * shape(rows) / shape(nearest.rows), "estimated"


def _lines(path: Path) -> list[NotedPace]:
    """Those that can be read; one that a kill tore, or another version wrote otherwise, is passed over."""
    found = []
    for line in path.read_text().splitlines()[-_LAST:] if path.exists() else []:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        pace = _FORM.read(told) if isinstance(told, dict) else None
        if pace is not None:
            found.append(pace)
    return found


def path_of(config: JobConfig) -> Path:
    """Where they are kept."""
    return Path(config.data.cache_dir) / "memory" / FILE
