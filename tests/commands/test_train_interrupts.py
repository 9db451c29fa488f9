"""Signals sent to a real launcher with a real (fake) worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lora_foundry.launch.records.reading import read_results
from tests import nursery
from tests.commands.ran import FAKE_WORKER
from tests.launch.seeds import Seed, seeds
from tests.root import PROJECT_ROOT

_PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _hang_ups_are_heard() -> Iterator[None]:
    """Whoever runs the tests under nohup has SIGHUP ignored, which a child inherits and the launcher respects."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def _start(sweep_dir: Path, *words: str) -> subprocess.Popen[str]:
    worker = FAKE_WORKER
    return nursery.Popen(
        [sys.executable, "-m", "src.train", *words, "-m", "tracking=none", f"hydra.sweep.dir={sweep_dir}", worker],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def _trains(sweep_dir: Path, pack: str = "pack-0") -> None:
    spool = sweep_dir / "spool" / f"{pack}.jsonl"
    _until(lambda: spool.exists() and '"step": 6' in spool.read_text(), "training")


def _worker_pid(sweep_dir: Path) -> int:
    return int(json.loads((sweep_dir / "commands.jsonl").read_text().splitlines()[0])["pid"])


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[-1].startswith("Z")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_cleanly_and_keeps_what_was_finished(tmp_path: Path, number: signal.Signals) -> None:
    launcher = _start(tmp_path / "s", seeds(0, Seed.ENDLESS, 1), "hydra.launcher.pack_size=1")
    try:
        _trains(tmp_path / "s", "pack-1")
        sent = time.monotonic()
        launcher.send_signal(number)
        out, _ = launcher.communicate(timeout=_PATIENCE_S)
    finally:
        launcher.kill()
    assert launcher.returncode == 130
    assert time.monotonic() - sent < 20, "seconds, with room for a busy machine"
    assert [result.state for result in read_results(tmp_path / "s")] == ["FINISHED", "KILLED", "KILLED"]
    assert json.loads((tmp_path / "s" / "results.json").read_text())[1]["state"] == "KILLED"
    assert [line["cmd"] for line in map(json.loads, (tmp_path / "s" / "commands.jsonl").read_text().splitlines())] == [
        "pack",
        "pack",
        "stop",
    ]
    if number != signal.SIGHUP:
        assert "stopping: saving checkpoints" in out
        go_on = [line for line in out.splitlines() if line.startswith("Continue:")]
        assert go_on == [f"Continue: python -m src.resume {tmp_path / 's'}"], "one for the two jobs that are left"
    assert _gone(_worker_pid(tmp_path / "s"))


def test_the_second_ctrl_c_ends_a_worker_that_does_not_stop(tmp_path: Path) -> None:
    launcher = _start(tmp_path / "s", seeds(Seed.DEAF))
    try:
        _trains(tmp_path / "s")
        launcher.send_signal(signal.SIGINT)
        _until(lambda: '"stop"' in (tmp_path / "s" / "commands.jsonl").read_text(), "the stop command")
        time.sleep(0.5)
        assert launcher.poll() is None, "it waits for the checkpoints"
        sent = time.monotonic()
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=_PATIENCE_S)
    finally:
        launcher.kill()
    assert launcher.returncode == 130
    assert time.monotonic() - sent < 30, "long before the patience with a clean stop ends"
    assert [result.state for result in read_results(tmp_path / "s")] == ["KILLED"]
    assert _gone(_worker_pid(tmp_path / "s"))


def test_a_killed_launcher_leaves_no_worker_and_the_sweep_stays_readable(tmp_path: Path) -> None:
    launcher = _start(tmp_path / "s", seeds(0, Seed.ENDLESS))
    try:
        _trains(tmp_path / "s")
        launcher.kill()
        launcher.communicate(timeout=_PATIENCE_S)
    finally:
        launcher.kill()
    pid = _worker_pid(tmp_path / "s")
    _until(lambda: _gone(pid), "the worker's end")
    assert [result.state for result in read_results(tmp_path / "s")] == ["FINISHED", "KILLED"]


def test_a_closed_pipe_does_not_end_the_training(tmp_path: Path) -> None:
    launcher = _start(tmp_path / "s", "seed=0,1")
    try:
        assert launcher.stdout is not None
        launcher.stdout.close()
        launcher.wait(_PATIENCE_S)
    finally:
        launcher.kill()
        if launcher.stderr is not None:
            launcher.stderr.close()
    assert [result.state for result in read_results(tmp_path / "s")] == ["FINISHED", "FINISHED"]
