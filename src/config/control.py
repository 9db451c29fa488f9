"""What a person asks of a running sweep: lines of ``control.jsonl`` in its folder, which the launcher follows."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

FILE = "control.jsonl"


def ask_to_stop(sweep_dir: Path, job: int | None = None) -> None:
    """Ask for a clean stop of one job, or of the whole sweep.

    Raises:
        OSError: When the folder cannot be written.
    """
    line = json.dumps({"t": time.time(), "cmd": "stop", "job": job})
    with (sweep_dir / FILE).open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


class Control:
    """Reads what is asked from now on; what was asked of an earlier launcher is done with.

    Args:
        sweep_dir: The sweep's folder.
    """

    def __init__(self, sweep_dir: Path) -> None:
        self._path = sweep_dir / FILE
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def stops(self) -> list[int | None]:
        """Jobs to stop since the last call; None stands for the whole sweep."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:  # nobody asked yet, or something that cannot be read lies in its place
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        found: list[int | None] = []
        for line in data[:end].splitlines():
            try:
                asked = json.loads(line)
            except ValueError:
                continue
            if isinstance(asked, dict) and asked.get("cmd") == "stop":
                job = asked.get("job")
                found.append(job if isinstance(job, int) else None)
        return found
