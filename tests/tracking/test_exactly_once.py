"""Each event is in MLflow once, whatever happens to the writer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking import SweepWriter, ingest
from tests.tracking.fake_sweep import Recorded, Sweep

MakeSweep = Callable[..., Sweep]
Record = Callable[..., SweepWriter]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_steps_that_a_resumed_job_repeats_are_logged_once(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=2)
    for step in range(13):
        sweep.metrics(0, step)
        sweep.metrics(1, step)
    sweep.picture(0, 12)
    sweep.state(0, "KILLED")
    record(sweep, {0: "KILLED", 1: "FINISHED"})
    first = Recorded(sweep)
    assert first.statuses() == {-1: "KILLED", 0: "KILLED", 1: "FINISHED"}

    # Continued from the checkpoint of step 10, by a worker with a spool of its own, at a later time.
    sweep.records = sweep.records[:1]
    sweep.write("state", 0, pack="resume-0", state="RUNNING", error=None, summary=None)
    for step in range(10, 16):
        values = {"train/loss": 1.0 / (step + 1)}
        sweep.write("metrics", 0, pack="resume-0", step=step, samples=4 * step, values=values)
    sweep.picture(0, 12)
    sweep.picture(0, 15)
    record(sweep, {0: "FINISHED"})
    again = Recorded(sweep)
    assert again.children[0].info.run_id == first.children[0].info.run_id
    assert again.parent.info.run_id == first.parent.info.run_id
    assert again.statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED"}
    for key in ("train/loss", "train/step"):
        assert again.steps(0, key) == [4 * step for step in range(16)]
        assert again.steps(1, key) == [4 * step for step in range(13)]
    name = "samples~red heart~scale 1.0+step"
    assert again.images(0) == [f"{name}+48", f"{name}+48 small", f"{name}+60", f"{name}+60 small"]


@pytest.mark.slow
def test_a_clock_that_is_set_back_costs_no_step(make_sweep: MakeSweep, record: Record) -> None:
    """In the middle of a spool, and between a spool and its successor."""
    sweep = make_sweep(jobs=1)
    sweep.state(0, "RUNNING")
    for step in range(20):
        sweep.clock += {7: 7200.0, 12: -9000.0}.get(step, 0.0)
        sweep.metrics(0, step)
    sweep.clock -= 86400.0
    for step in range(18, 24):
        sweep.write("metrics", 0, pack="pack-0a", step=step, samples=4 * step, values={"train/loss": 1.0 / (step + 1)})
    record(sweep, {0: "FINISHED"})
    assert sorted(Recorded(sweep).steps(0, "train/loss")) == [4 * step for step in range(24)]


@pytest.mark.slow
@pytest.mark.parametrize("stored", [True, False], ids=["after the store took it", "before the store took it"])
@pytest.mark.parametrize("call", ["log_batch", "create_run", "log_image"])
def test_a_call_that_fails_is_done_once(
    make_sweep: MakeSweep, record: Record, monkeypatch: pytest.MonkeyPatch, call: str, *, stored: bool
) -> None:
    monkeypatch.setattr(ingest, "METRICS_PER_BATCH", 10)
    real: Callable[..., Any] = getattr(MlflowClient, call)
    calls: list[str] = []

    def torn(*args: Any, **kwargs: Any) -> Any:
        calls.append(call)
        fails = len(calls) in {2, 3, 6}
        if fails and not stored:
            raise MlflowException("connection reset")
        answer = real(*args, **kwargs)
        if fails:
            raise MlflowException("connection reset")
        return answer

    monkeypatch.setattr(MlflowClient, call, torn)
    sweep = make_sweep(jobs=2)
    for step in range(20):
        for job in range(2):
            sweep.metrics(job, step)
    for job in range(2):
        for step in (0, 19):
            sweep.picture(job, step)
    assert record(sweep, {0: "FINISHED", 1: "FINISHED"}).problem is None
    assert len(calls) >= 3
    recorded = Recorded(sweep)
    for job in range(2):
        assert recorded.steps(job, "train/loss") == [4 * step for step in range(20)]
        assert len(recorded.images(job)) == 4
        run = recorded.children[job]
        assert run.data.params["lora.rank"] == str(4 * 2**job)
        assert [item.path for item in recorded.client.list_artifacts(run.info.run_id, "config")] == [
            "config/config.yaml"
        ]


@pytest.mark.slow
def test_a_lost_tracking_file_costs_nothing_but_reading(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    sweep.metrics(0, 1)
    sweep.picture(0, 1)
    record(sweep, {0: "FINISHED"})
    first = Recorded(sweep)
    (sweep.dir / "tracking.json").unlink()
    sweep.metrics(0, 2)
    record(sweep, {0: "FINISHED"})
    again = Recorded(sweep)
    assert again.children[0].info.run_id == first.children[0].info.run_id
    assert again.steps(0, "train/loss") == [4, 8]
    assert len(again.images(0)) == 2


@pytest.mark.slow
def test_a_lost_database_is_filled_again(make_sweep: MakeSweep, record: Record, tracking: TrackingConfig) -> None:
    sweep = make_sweep(jobs=2)
    for job in range(2):
        sweep.metrics(job, 1)
        sweep.state(job, "FINISHED")
    record(sweep, {0: "FINISHED", 1: "FINISHED"})
    recorded = Recorded(sweep)
    for run in recorded.runs:
        recorded.client.delete_run(run.info.run_id)
    sweep.metrics(0, 2)
    record(sweep, {0: "FINISHED", 1: "FINISHED"})
    again = Recorded(sweep)
    assert again.steps(0, "train/loss") == [4, 8]
    assert again.steps(1, "train/loss") == [4]
    assert again.statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED"}
    assert tracking.uri is None


@pytest.mark.slow
def test_a_writer_killed_at_random_points_logs_everything_once(make_sweep: MakeSweep, tracking: TrackingConfig) -> None:
    sweep = make_sweep(jobs=3)
    for step in range(60):
        for job in range(3):
            sweep.metrics(job, step, train__loss=0.5, train__lr=0.1)
        if step % 6 == 0:
            for job in range(3):
                sweep.picture(job, step)
    for job in range(3):
        sweep.state(job, "FINISHED")
    # One process imports MLflow and forks the writers that it kills, which a pytest process with threads may not.
    script = ROOT / "tests" / "tracking" / "killed_writers.py"
    subprocess.run(
        [sys.executable, str(script), str(sweep.dir), sweep.id, tracking.root, "7"], check=True, cwd=ROOT, timeout=120
    )
    recorded = Recorded(sweep)
    assert recorded.statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED", 2: "FINISHED"}
    for job in range(3):
        for key in ("train/loss", "train/lr", "train/step"):
            assert recorded.steps(job, key) == [4 * step for step in range(60)]
        names = [f"samples~red heart~scale 1.0+step+{4 * step}" for step in range(0, 60, 6)]
        assert recorded.images(job) == sorted([*names, *(f"{name} small" for name in names)])
        assert len(recorded.children[job].data.params) == len(_params(sweep, job))


def _params(sweep: Sweep, job: int) -> dict[str, str]:
    params: dict[str, str] = json.loads((sweep.dir / "tracking.json").read_text())["jobs"][str(job)]["params"]
    return params
