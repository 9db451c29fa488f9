"""Sweeps as real processes with a real MLflow store, and a worker that trains nothing."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lora_foundry.launch.records.journal import is_held, read_journal
from lora_foundry.launch.records.reading import read_results
from lora_foundry.wire.journal import SweepLine
from tests import nursery
from tests.commands.ran import FAKE_WORKER
from tests.commands.stopping import began, sweeps_in
from tests.launch.seeds import Seed, seeds
from tests.phrases import BUSY, HOLDS_A_SWEEP
from tests.root import PROJECT_ROOT

_PATIENCE_S = 150.0  # making a database takes MLflow half a minute on a busy machine
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a command of the project in ``tmp_path``; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def run(module: str, *words: str) -> subprocess.Popen[str]:
        process = nursery.Popen(
            [sys.executable, "-m", f"src.{module}", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


class Store:
    """What the database holds, read without importing MLflow."""

    def __init__(self, root: Path) -> None:
        self._database = root / "mlflow.db"

    def _ask(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        if not self._database.exists():
            return []
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    def runs(self, role: str) -> dict[str, tuple[str, str]]:
        """Run id to sweep and status."""
        query = (
            "select r.run_uuid, s.value, r.status from runs r "
            "join tags t on t.run_uuid = r.run_uuid and t.key = 'role' and t.value = ? "
            "join tags s on s.run_uuid = r.run_uuid and s.key = 'sweep'"
        )
        return {run: (sweep, status) for run, sweep, status in self._ask(query, role)}

    def statuses(self, role: str) -> Counter[str]:
        return Counter(status for _, status in self.runs(role).values())

    def steps(self, run: str, key: str = "train/loss") -> list[int]:
        """Steps of the metric as they were stored, repetitions included."""
        return sorted(
            step for (step,) in self._ask("select step from metrics where run_uuid = ? and key = ?", run, key)
        )

    def job_of(self, run: str) -> int:
        return int(self._ask("select value from tags where run_uuid = ? and key = 'job'", run)[0][0])


def _last_steps(folder: Path) -> dict[int, int]:
    """The highest step that the workers told of each job."""
    last: dict[int, int] = {}
    for spool in (folder / "spool").glob("*.jsonl"):
        for line in spool.read_text().splitlines():
            event = json.loads(line)
            if event["kind"] == "metrics":
                last[event["job"]] = max(event["samples"], last.get(event["job"], 0))
    return last


@pytest.mark.slow
@pytest.mark.parametrize("how", ["launcher killed", "stopped"])
def test_a_resumed_sweep_goes_on_in_the_same_runs_and_logs_no_step_twice(
    start: Start, tmp_path: Path, how: str
) -> None:
    """Two packs on two slots; the resumed jobs do their last steps once more, as after a checkpoint."""
    folder, store = tmp_path / "multirun" / "day" / "10-00-00-a1b2c3", Store(tmp_path / "mlruns")
    words = ["lora.rank=4,8,16", seeds(Seed.ENDLESS), "hydra.launcher.pack_size=2", "hydra.launcher.slots=2"]
    launcher = start("train", *words, "-m", FAKE_WORKER, f"hydra.sweep.dir={folder}", "tracking.flush_s=0.2")
    _until(lambda: [len(store.steps(run)) > 3 for run in store.runs("job")] == [True] * 3, "metrics of three jobs")
    before = store.runs("job") | store.runs("sweep")
    assert store.statuses("sweep") == {"RUNNING": 1}
    if how == "launcher killed":
        launcher.send_signal(signal.SIGKILL)
        launcher.communicate()
        _until(lambda: not is_held(folder), "the workers' end")
        assert store.statuses("sweep") == {"RUNNING": 1}, "nobody was there to say that it is over"
    else:
        assert start("stop", str(folder)).wait(_PATIENCE_S) == 0
        assert launcher.wait(_PATIENCE_S) == 130
        assert (store.statuses("sweep"), store.statuses("job")) == ({"KILLED": 1}, {"KILLED": 3})
    assert [result.state for result in read_results(folder)] == ["KILLED"] * 3

    resumed = start("resume", str(folder))
    _until(lambda: len(began(folder)) == 4, "the packs to begin again")  # by the first: a second would wait for nothing
    _until(lambda: store.statuses("sweep") == {"RUNNING": 1} and store.statuses("job") == {"RUNNING": 3}, "RUNNING")
    second = start("resume", str(folder))
    told, _ = second.communicate(timeout=_PATIENCE_S)
    assert second.returncode == 2
    assert told.count(BUSY) == 1
    assert "Traceback" not in told
    (folder / "let-end").touch()
    out, _ = resumed.communicate(timeout=_PATIENCE_S)
    assert resumed.returncode == 0, out

    assert (store.runs("job") | store.runs("sweep")).keys() == before.keys(), "the same runs"
    assert (store.statuses("sweep"), store.statuses("job")) == ({"FINISHED": 1}, {"FINISHED": 3})
    last = _last_steps(folder)
    for run in store.runs("job"):
        for key in ("train/loss", "train/step"):
            assert store.steps(run, key) == list(range(1, last[store.job_of(run)] + 1)), "each once, none missing"
    assert sorted(began(folder)) == [[0, 1], [0, 1], [2], [2]], "who trained together goes on together"


@pytest.mark.slow
def test_two_sweeps_of_one_second_share_a_fresh_store_and_both_finish(start: Start, tmp_path: Path) -> None:
    pattern = "hydra.sweep.dir=multirun/2026-11-25/17-05-33-${sweep_id:}"  # as when both start within that second
    both = [start("train", "lora.rank=4,8", f"seed={seed}", "-m", FAKE_WORKER, pattern) for seed in (1, 2)]
    for process in both:
        out, _ = process.communicate(timeout=_PATIENCE_S)
        assert process.returncode == 0, out
        assert "not everything is in MLflow" not in out
    folders = sweeps_in(tmp_path / "multirun")
    assert len(folders) == 2
    for folder in folders:
        assert [result.state for result in read_results(folder)] == ["FINISHED", "FINISHED"]
    store = Store(tmp_path / "mlruns")
    assert (store.statuses("sweep"), store.statuses("job")) == ({"FINISHED": 2}, {"FINISHED": 4})
    assert Counter(sweep for sweep, _ in store.runs("job").values()).most_common()[-1][1] == 2
    assert [store.steps(run) for run in store.runs("job")] == [[1, 2, 3, 4, 5]] * 4


def test_two_commands_into_one_folder(start: Start, tmp_path: Path) -> None:
    """One has it; the other is told so, and harms nothing."""
    folder = tmp_path / "mine"
    words = ["lora.rank=4,8", "-m", FAKE_WORKER, f"hydra.sweep.dir={folder}", "tracking=none"]
    both = [start("train", *words) for _ in range(2)]
    said = [process.communicate(timeout=_PATIENCE_S)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    loser = said[[process.returncode for process in both].index(2)]
    assert HOLDS_A_SWEEP in loser
    assert "Traceback" not in loser
    assert [result.state for result in read_results(folder)] == ["FINISHED", "FINISHED"]
    assert len([line for line in read_journal(folder) if isinstance(line, SweepLine)]) == 1
