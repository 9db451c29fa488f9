"""How long steps took: noted by workers, and what later plans predict times with."""

from __future__ import annotations

import json
import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lora_foundry.config.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lora_foundry.config import JobConfig

FILE = "paces.jsonl"
_RECENT = 9  # measurements that a time is the median of
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


class Paces:
    """What was noted where ``config`` keeps its caches.

    Args:
        config: Any job of a sweep.
    """

    def __init__(self, config: JobConfig) -> None:
        self._noted: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in _lines(path_of(config)):
            self._noted.setdefault((str(line["kind"]), str(line["device"])), []).append(line)

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
        fitting = [line for line in noted if threads in (None, line["threads"])]
        if not fitting:
            return None
        exact = [float(line["s"]) for line in fitting if (line["members"], line["rows"]) == (members, rows)]
        if exact:
            return statistics.median(exact[-_RECENT:]), "measured"
        nearest = min(fitting, key=lambda line: (abs(math.log(line["rows"] / rows)), -line["t"]))
        return float(nearest["s"]) * shape(rows) / shape(nearest["rows"]), "estimated"


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text().splitlines()[-_LAST:] if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # torn by a kill
    return found


def path_of(config: JobConfig) -> Path:
    """Where they are kept."""
    return Path(config.data.cache_dir) / "memory" / FILE
