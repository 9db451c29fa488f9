"""The journal survives kills, and its owner is the only one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from src.launch.journal import FILE, Journal, SweepBusyError, last_states, read_journal
from src.launch.results import read_results


def test_lines_are_whole_on_the_disk_before_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("src.launch.journal.os.fsync", lambda _: synced.append(len(read_journal(tmp_path))))
    with Journal(tmp_path) as journal:
        for job in range(2):
            journal.write("job", job=job, state="RUNNING", error=None, summary=None)
        assert [line["job"] for line in read_journal(tmp_path)] == [0, 1]
    assert synced == [0, 1, 2], "the first line tells the format, and each line is synced after it was written"


def test_a_torn_line_is_passed_over_and_the_next_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"event": "job", "job": 0, "state": "FINISHED"}\n{"event": "jo')
    with Journal(tmp_path) as journal:
        journal.write("job", job=1, state="FAILED", error="x", summary=None)
    assert {job: state["state"] for job, state in last_states(tmp_path).items()} == {0: "FINISHED", 1: "FAILED"}


def test_a_second_owner_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(SweepBusyError, match="in use by another process"):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_a_worker_holds_the_sweep_after_its_launcher_has_gone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[journal.fileno()]
    ) as worker:
        journal.close()
        with pytest.raises(SweepBusyError):
            Journal(tmp_path)
        worker.communicate(b"\n")
    Journal(tmp_path).close()


def _sweep(tmp_path: Path) -> Path:
    jobs = [{"job": n, "name": f"n{n}", "dir": str(n), "rank": 4, "overrides": {}, "pack": "pack-0"} for n in range(4)]
    (tmp_path / "sweep.json").write_text(json.dumps({"id": "x", "jobs": jobs}))
    (tmp_path / "spool").mkdir()
    return tmp_path


def _event(t: float, job: int, state: str, **more: object) -> str:
    return (
        json.dumps({"t": t, "kind": "state", "job": job, "state": state, "error": None, "summary": None, **more}) + "\n"
    )


def test_results_are_found_again_after_a_killed_launcher(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    with Journal(sweep) as journal:
        for job, state in ((0, "RUNNING"), (0, "FINISHED"), (1, "RUNNING"), (2, "RUNNING")):
            journal.write("job", job=job, state=state, error=None, summary={"val_loss": 0.5} if job == 0 else None)
    (sweep / "spool" / "pack-0.jsonl").write_text(_event(1, 1, "FINISHED", summary={"val_loss": 0.25}))
    results = read_results(sweep)
    assert [result.state for result in results] == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    assert [result.number("val_loss") for result in results] == [0.5, 0.25, None, None]


def test_the_first_end_of_a_spool_counts_and_the_latest_spool(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    (sweep / "spool" / "pack-0.jsonl").write_text(
        _event(1, 0, "FINISHED") + _event(2, 0, "FAILED") + _event(1, 1, "FAILED", error="x")
    )
    (sweep / "spool" / "resume-0.jsonl").write_text(_event(5, 1, "FINISHED"))
    assert [result.state for result in read_results(sweep)][:2] == ["FINISHED", "FINISHED"]
