"""Runs that a crash left RUNNING, and ``python -m src.track``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.commands import track
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking import SweepWriter
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def crash(make_sweep: MakeSweep, tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Sweep]:
    """Makes a sweep whose launcher is gone: its runs are RUNNING, and its spool holds more than MLflow."""

    def make(name: str) -> Sweep:
        sweep = make_sweep(name, jobs=3)
        for job in range(2):
            sweep.state(job, "RUNNING")
            sweep.metrics(job, 1)
        writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
        with monkeypatch.context() as patch:
            # As a kill would: the thread ends between two flushes, without its last words.
            patch.setattr(SweepWriter, "_end", lambda *_: None)
            writer.start()
            deadline = time.monotonic() + 20.0
            while not json.loads((sweep.dir / "tracking.json").read_text())["offsets"]:
                assert time.monotonic() < deadline, writer.problem
                time.sleep(0.02)
            writer.close({})
        sweep.metrics(0, 2)
        sweep.state(0, "FINISHED")
        _set_launcher(sweep, pid=2**22 + 1)
        assert Recorded(sweep).statuses() == {-1: "RUNNING", 0: "RUNNING", 1: "RUNNING"}
        return sweep

    return make


@pytest.mark.slow
def test_the_next_sweep_sets_a_dead_sweeps_runs_right(
    crash: Callable[[str], Sweep], make_sweep: MakeSweep, tracking: TrackingConfig
) -> None:
    dead, gone = crash("dead"), crash("gone")
    runs = Recorded(gone)
    (gone.dir / "tracking.json").rename(gone.dir / "lost.json")
    _wait_until_settled(make_sweep("next", jobs=1), tracking)
    recorded = Recorded(dead)
    # What its worker wrote is kept: one job had finished. A job that never began has a run that says so.
    assert recorded.statuses() == {-1: "FAILED", 0: "FINISHED", 1: "FAILED", 2: "FAILED"}
    assert recorded.steps(0, "train/loss") == [4, 8]
    statuses = {runs.client.get_run(run.info.run_id).info.status for run in runs.runs}
    assert statuses == {"FAILED"}


@pytest.mark.slow
@pytest.mark.parametrize("change", ["alive", "other machine"])
def test_sweeps_of_living_launchers_and_of_other_machines_are_left_alone(
    crash: Callable[[str], Sweep], make_sweep: MakeSweep, tracking: TrackingConfig, change: str
) -> None:
    sweep = crash("dead")
    if change == "alive":
        _set_launcher(sweep, pid=os.getpid())
    else:
        _set_launcher(sweep, pid=2**22 + 1, host="another")
    _wait_until_settled(make_sweep("next", jobs=1), tracking)
    assert Recorded(sweep).statuses() == {-1: "RUNNING", 0: "RUNNING", 1: "RUNNING"}


@pytest.mark.slow
def test_a_reused_process_id_does_not_keep_a_sweep_running(
    crash: Callable[[str], Sweep], make_sweep: MakeSweep, tracking: TrackingConfig
) -> None:
    sweep = crash("dead")
    _set_launcher(sweep, pid=os.getpid(), started=1000.0)
    _wait_until_settled(make_sweep("next", jobs=1), tracking)
    assert Recorded(sweep).statuses()[-1] == "FAILED"


@pytest.mark.slow
def test_the_command_logs_a_dead_sweep_and_may_be_repeated(
    crash: Callable[[str], Sweep], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = crash("dead")
    assert track.main([str(sweep.dir)]) == 0
    told = capsys.readouterr().out
    assert "flat-rank4 FINISHED, flat-rank8 FAILED, flat-rank16 FAILED" in told
    sweep.metrics(1, 2)
    assert track.main([str(sweep.dir)]) == 0
    recorded = Recorded(sweep)
    assert recorded.statuses() == {-1: "FAILED", 0: "FINISHED", 1: "FAILED", 2: "FAILED"}
    assert (recorded.steps(0, "train/loss"), recorded.steps(1, "train/loss")) == ([4, 8], [4, 8])


@pytest.mark.slow
def test_the_command_leaves_a_running_sweep_to_its_launcher(
    crash: Callable[[str], Sweep], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = crash("dead")
    _set_launcher(sweep, pid=os.getpid())
    assert track.main([str(sweep.dir)]) == 1
    assert f"still runs (process {os.getpid()})" in capsys.readouterr().err
    assert Recorded(sweep).statuses()[-1] == "RUNNING"


def test_the_command_names_a_wrong_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert track.main([str(tmp_path), str(tmp_path / "none")]) == 2
    told = capsys.readouterr().err
    assert "no tracking.json" in told
    assert "none is no folder" in told


def _set_launcher(sweep: Sweep, *, pid: int, host: str | None = None, started: float | None = None) -> None:
    """Rewrite who runs the sweep, in its file and in the store."""
    path = sweep.dir / "tracking.json"
    values = json.loads(path.read_text())
    values["launcher"]["pid"] = pid
    values["launcher"]["host"] = host or values["launcher"]["host"]
    values["launcher"]["started"] = started or values["launcher"]["started"]
    path.write_text(json.dumps(values))
    recorded = Recorded(sweep)
    for key in ("pid", "host", "started"):
        recorded.client.set_tag(recorded.parent.info.run_id, f"launcher_{key}", str(values["launcher"][key]))


def _wait_until_settled(sweep: Sweep, tracking: TrackingConfig) -> None:
    """Record ``sweep``, whose writer looks after the dead ones in its first pass."""
    writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
    writer.start()
    deadline = time.monotonic() + 20.0
    while not writer.settled:
        assert time.monotonic() < deadline, writer.problem
        time.sleep(0.02)
    writer.close({0: "FINISHED"})
    assert writer.problem is None
