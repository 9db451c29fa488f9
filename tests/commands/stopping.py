"""A sweep that is stopped in the middle, as ``src.stop`` does it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_foundry.launch.records.journal import read_journal
from lora_foundry.wire.control import ask_to_stop
from lora_foundry.wire.journal import BeganLine, JobLine


def sweeps_in(root: Path) -> list[Path]:
    """Folders of sweeps below ``root``, the oldest first."""
    files = [*root.glob("sweep.json"), *root.glob("*/*/sweep.json")]
    return [path.parent for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]


def ends(folder: Path) -> list[str]:
    """The states in the journal, in order."""
    return [line.state for line in read_journal(folder) if isinstance(line, JobLine)]


def began(folder: Path) -> list[list[int]]:
    """The jobs of each start of a pack."""
    return [list(line.jobs) for line in read_journal(folder) if isinstance(line, BeganLine)]


@contextmanager
def stopped_after(root: Path, *, finished: int) -> Iterator[None]:
    """Stops the next sweep below ``root`` once so many of its jobs have finished and another runs."""
    before = set(sweeps_in(root))

    def ask() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for folder in set(sweeps_in(root)) - before:
                states = ends(folder)
                if states.count("FINISHED") >= finished and states.count("RUNNING") > finished:
                    ask_to_stop(folder)
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    thread.join()
