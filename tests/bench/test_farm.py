"""What the farm's bench says of its measurements, and that the worker that trains nothing speaks the protocol."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench import farm, idle_worker
from bench.farm import Launched, judge, percentile
from lora_foundry.wire.events import WORKER_EVENTS, StateEvent, read_events

PLANNED = {"compose": 0.01, "plan": 1.0, "traced": 30.0, "forecast": 2.0}


def _launched(**values: Any) -> Launched:
    return Launched(**{"total": 100.0, "first_pack": 10.0, "trained": 50.0, "gaps": [0.01] * 100} | values)


def test_figures_within_their_limits_hold() -> None:
    result = judge(1000, _launched(), [0.3, 0.4, 5.0], PLANNED, [0.4, 0.3], quick=False)
    assert all(claim.holds for claim in result.claims)
    measured = {claim.what: claim.measured for claim in result.claims}
    assert measured["1000 jobs without training, each"] == "100 ms"
    assert measured["second pack on a warm slot, to its first step"] == "0.40 s"
    assert [row[1] for row in result.tables[0].rows] == ["10.0 s", "50.0 s", "40.0 s", "100 s"]


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("1000 jobs without training, each", {"total": 251.0}),
        ("1000 jobs checked and the first pack sent", {"first_pack": 21.5}),
        ("a slot waits for its next pack, median", {"gaps": [0.2] * 100}),
        ("a slot waits for its next pack, 99 of 100", {"gaps": [0.01] * 98 + [0.6, 0.7]}),
        ("`python -m src.status` of 1000 jobs", {"status": [1.1]}),
        ("planning 1000 composed jobs", {"plan": 5.1}),
        ("planning 1000 composed jobs with memory forecasts", {"forecast": 5.1}),
        ("second pack on a warm slot, to its first step", {"warm": [0.3, 0.6]}),
    ],
)
def test_a_figure_beyond_its_limit_does_not_hold(what: str, changed: dict[str, Any]) -> None:
    launched = _launched(**{key: value for key, value in changed.items() if key in ("total", "first_pack", "gaps")})
    planned = PLANNED | {key: value for key, value in changed.items() if key in PLANNED}
    result = judge(1000, launched, changed.get("status", [0.3]), planned, changed.get("warm", [0.3]), quick=False)
    assert [claim.what for claim in result.claims if not claim.holds] == [what]


def test_a_percentile_is_a_value_that_so_many_do_not_exceed() -> None:
    assert percentile(list(range(100)), 0.99) == 98
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([1.0, 2.0], 0.5) == 1.0


def test_the_idle_worker_ends_every_job_of_packs_and_of_joins_that_come_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(cmd: str, *numbers: int) -> str:
        jobs = [{"job": n, "dir": str(tmp_path / str(n)), "name": f"a{n}", "resume": False} for n in numbers]
        return json.dumps({"cmd": cmd, "pack": "pack-0", "spool": str(tmp_path / "pack-0.jsonl"), "jobs": jobs}) + "\n"

    for number in range(3):
        (tmp_path / str(number)).mkdir()
    lines = asked("pack", 0, 1) + asked("join", 2) + '{"cmd": "exit"}\n' + asked("pack", 0)
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    monkeypatch.setattr("sys.argv", ["idle_worker", "--sweep-dir", str(tmp_path)])
    idle_worker.main()
    events, _ = read_events(tmp_path / "pack-0.jsonl")
    ends = [event.job for event in events if isinstance(event, StateEvent) and event.state == "FINISHED"]
    assert ends == [0, 1, 2]
    assert [event.state for event in events if isinstance(event, WORKER_EVENTS)] == ["pack_started", "pack_ended"] * 2


@pytest.mark.slow
def test_jobs_go_through_launcher_mlflow_and_ledger(tmp_path: Path) -> None:
    launched = farm.launch(6, tmp_path)
    assert 0 < launched.first_pack < launched.total
    assert all(gap >= 0 for gap in launched.gaps)
    assert len(farm.status_s(tmp_path, 1)) == 1


def test_a_run_that_is_missing_in_mlflow_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlruns").mkdir()
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as store:
        store.execute("CREATE TABLE runs (status TEXT)")
        store.execute("INSERT INTO runs VALUES ('FINISHED'), ('RUNNING')")
        store.commit()
    monkeypatch.setattr(farm, "run_timed", lambda *_, **__: 1.0)  # the sweep itself
    with pytest.raises(RuntimeError, match="1 of 2 runs"):
        farm.launch(2, tmp_path)
