"""A sweep whose launcher was killed: its workers save and leave, and only then can it go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.launch.records.journal import is_held, read_journal
from lora_foundry.launch.records.state import SweepState, fold
from lora_foundry.tracking.processes import ProcessMark

Ready = Callable[[Path], None]
"""Is told a sweep's folder before it is read to go on there, and returns when that can be done."""

_PATIENCE_S = 60.0
_EVERY_S = 0.2


def wait_until_free(sweep_dir: Path, patience_s: float = _PATIENCE_S) -> None:
    """Return when nobody works in ``sweep_dir``; wait only for workers that a launcher left behind, and say so.

    Raises:
        SweepError: When its launcher lives, or a worker is still there after ``patience_s``, with whose process it is.
    """
    if not is_held(sweep_dir):
        return
    launcher, workers = _processes(sweep_dir)
    if launcher is not None and not launcher.is_dead():
        there = f"process {launcher.pid} on {launcher.host}"
        stop = command_line("stop", sweep_dir)
        raise SweepError(
            [f"{sweep_dir} is in use by another process: its launcher ({there}) trains it; to end it: {stop}"]
        )
    who = f"worker process {', '.join(map(str, workers))}" if workers else "another process"
    sys.stderr.write(f"{sweep_dir}: its launcher is gone, {who} still saves; waiting up to {patience_s:g} s for it\n")
    deadline = time.monotonic() + patience_s
    while is_held(sweep_dir):
        if time.monotonic() > deadline:
            end = f"end it (kill {' '.join(map(str, workers))})" if workers else "end it"
            raise SweepError([f"{sweep_dir} is in use by another process: {who}, after {patience_s:g} s; {end}"])
        time.sleep(_EVERY_S)


def _processes(sweep_dir: Path) -> tuple[ProcessMark | None, list[int]]:
    """The launcher that had the sweep last, and the workers of it that are still there."""
    state = SweepState()
    for line in read_journal(sweep_dir):
        fold(state, line)
    return state.launcher, [pid for pid in state.workers if Path(f"/proc/{pid}").exists()]
