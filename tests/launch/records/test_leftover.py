"""A sweep that somebody still works in, found by who wants to go on with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.records.journal import Journal, is_held
from lora_foundry.launch.records.leftover import wait_until_free
from lora_foundry.wire.journal import LauncherLine, WorkerLine

_GONE = 2**22 + 1  # larger than any process id


def _worker(journal: Journal, seconds: float) -> subprocess.Popen[bytes]:
    """A process that has the sweep's lock for so long, as a worker that saves."""
    line = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
    process = subprocess.Popen(line, pass_fds=[journal.fileno()])
    journal.write(WorkerLine(state="started", pid=process.pid, slot="cpu"))
    journal.write(WorkerLine(state="started", pid=_GONE, slot="cpu-1"))
    return process


def test_nobody_is_waited_for_where_nobody_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal(tmp_path).close()
    wait_until_free(tmp_path)
    wait_until_free(tmp_path / "nothing")
    assert capsys.readouterr().err == ""


def test_a_worker_that_a_killed_launcher_left_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path) as journal:
        journal.write(LauncherLine(host=os.uname().nodename, pid=_GONE, started=1.0))
        worker = _worker(journal, 1.5)
    assert is_held(tmp_path)
    wait_until_free(tmp_path)
    assert not is_held(tmp_path)
    assert worker.wait() == 0
    said = capsys.readouterr().err
    assert (
        said
        == f"{tmp_path}: its launcher is gone, worker process {worker.pid} still saves; waiting up to 60 s for it\n"
    )


def test_whose_process_it_is_is_said_when_it_does_not_leave(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        worker = _worker(journal, 60.0)
    try:
        with pytest.raises(
            SweepError, match=rf"worker process {worker.pid}, after 0.3 s; end it \(kill {worker.pid}\)"
        ):
            wait_until_free(tmp_path, 0.3)
    finally:
        worker.kill()
        worker.wait()


def test_a_launcher_that_lives_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path) as journal:
        journal.sign()
        with pytest.raises(SweepError, match=rf"its launcher \(process {os.getpid()} on .*src\.stop"):
            wait_until_free(tmp_path)
    assert capsys.readouterr().err == ""
