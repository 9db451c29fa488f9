"""A sweep's spool becomes MLflow runs while it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking import SweepWriter, TrackingError
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep
from tests.tracking.places import place

MakeSweep = Callable[..., Sweep]
Record = Callable[..., SweepWriter]


@pytest.mark.slow
def test_a_sweep_is_a_parent_run_with_a_child_for_each_job(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep()
    for job in range(3):
        sweep.state(job, "RUNNING")
        sweep.write("tags", job, values={"base_hash": "b1", "data_hash": "d1"})
        sweep.state(job, "FINISHED")
    writer = record(sweep, dict.fromkeys(range(3), "FINISHED"))
    assert writer.problem is None
    recorded = Recorded(sweep)
    assert recorded.statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED", 2: "FINISHED"}
    assert recorded.parent.data.tags["command"] == COMMAND
    child = recorded.children[1]
    assert child.data.tags["command"] == COMMAND
    assert child.info.run_name == "rank=8"
    assert child.data.params == {"lora.rank": "8"}
    expected = {
        "mlflow.parentRunId": recorded.parent.info.run_id,
        "sweep": sweep.id,
        "job": "1",
        "pack": "pack-0",
        "name": "flat-rank8",
        "base_hash": "b1",
        "data_hash": "d1",
    }
    assert {key: child.data.tags.get(key) for key in expected} == expected
    config = recorded.client.list_artifacts(child.info.run_id, "config")
    assert [item.path for item in config] == ["config/config.yaml"]


@pytest.mark.slow
def test_what_a_job_is_warned_of_is_a_tag_on_its_run(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=2)
    sweep.records[0].warnings["warning.warmup"] = "the peak is never reached"
    for job in range(2):
        sweep.state(job, "FINISHED")
    record(sweep, dict.fromkeys(range(2), "FINISHED"))
    tags = [child.data.tags.get("warning.warmup") for child in Recorded(sweep).children.values()]
    assert sorted(tags, key=str) == [None, "the peak is never reached"]


@pytest.mark.slow
def test_curves_have_samples_seen_as_steps_and_the_events_times(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    for step in range(3):
        sweep.metrics(0, step, train__loss=0.5 - step / 10, val__loss_t000_250=0.25)
    started = sweep.clock - 2.0
    record(sweep, {0: "FINISHED"})
    recorded = Recorded(sweep)
    assert recorded.steps(0, "train/loss") == [0, 4, 8]
    assert recorded.steps(0, "val/loss_t000_250") == [0, 4, 8]
    history = recorded.client.get_metric_history(recorded.children[0].info.run_id, "train/step")
    assert [metric.value for metric in history] == [0.0, 1.0, 2.0]
    assert [metric.timestamp for metric in history] == [int((started + second) * 1000) for second in range(3)]


@pytest.mark.slow
def test_more_metrics_than_a_batch_holds_are_all_logged(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    for step in range(700):
        sweep.metrics(0, step, train__loss=0.5, train__lr=0.1)
    record(sweep, {0: "FINISHED"})
    recorded = Recorded(sweep)
    for key in ("train/loss", "train/lr", "train/step"):
        assert recorded.steps(0, key) == [4 * step for step in range(700)]


@pytest.mark.slow
def test_a_metric_that_is_not_finite_is_kept(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    sweep.metrics(0, 1, train__loss=float("nan"))
    sweep.state(0, "FAILED", "loss is not finite at step 1")
    assert record(sweep, {0: "FAILED"}).problem is None
    recorded = Recorded(sweep)
    assert recorded.steps(0, "train/loss") == [4]
    assert recorded.children[0].data.tags["error"] == "loss is not finite at step 1"


@pytest.mark.slow
def test_files_and_results_of_a_job_are_artifacts_and_metrics_of_its_run(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    (sweep.dir / "0" / "adapter").mkdir()
    (sweep.dir / "0" / "adapter" / "a.safetensors").write_bytes(b"weights")
    (sweep.dir / "results.json").write_text("[]")
    sweep.picture(0, 9)
    sweep.write("artifact", 0, path="0/adapter/a.safetensors", folder="adapter")
    sweep.state(0, "FINISHED")
    record(sweep, {0: "FINISHED"})
    recorded = Recorded(sweep)
    run = recorded.children[0]
    paths = {
        item.path
        for folder in ("adapter", "samples")
        for item in recorded.client.list_artifacts(run.info.run_id, folder)
    }
    assert paths == {"adapter/a.safetensors", "samples/red-heart-s0-x1.00.png"}
    assert (run.data.metrics["adapter/bytes"], run.data.metrics["perf/seconds"]) == (1234.0, 5.5)
    assert (run.data.metrics["val/loss_rel_best"], run.data.metrics["adapter/best_step"]) == (0.76, 6.0)
    assert run.data.tags["best_file"] == "0/adapter/best/a.safetensors"
    assert run.data.tags["file"] == "0/adapter/a.safetensors"
    assert [item.path for item in recorded.client.list_artifacts(recorded.parent.info.run_id)] == ["results.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "parent"),
    [
        (("FINISHED", "FINISHED", "FINISHED"), "FINISHED"),
        (("FINISHED", "FAILED", "FINISHED"), "FAILED"),
        (("FINISHED", "FAILED", "KILLED"), "KILLED"),
    ],
)
def test_runs_end_as_the_launcher_says_also_those_that_never_started(
    make_sweep: MakeSweep, record: Record, ends: tuple[str, ...], parent: str
) -> None:
    sweep = make_sweep()
    sweep.state(0, "RUNNING")
    record(sweep, dict(enumerate(ends)))
    assert Recorded(sweep).statuses() == {-1: parent} | dict(enumerate(ends))


@pytest.mark.slow
def test_a_pruned_run_is_finished_with_a_tag_and_makes_no_sweep_killed(
    make_sweep: MakeSweep, record: Record, tracking: TrackingConfig
) -> None:
    sweep = make_sweep(jobs=2)
    sweep.state(0, "RUNNING")
    sweep.state(0, "PRUNED")
    record(sweep, {0: "PRUNED", 1: "PRUNED"})
    recorded = Recorded(sweep)
    assert recorded.statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED"}
    assert [recorded.children[job].data.tags["state"] for job in (0, 1)] == ["PRUNED", "PRUNED"]
    sweep.records = sweep.records[:1]
    writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
    writer.start()
    sweep.state(0, "RUNNING")
    writer.close({0: "FINISHED"})
    assert "state" not in Recorded(sweep).children[0].data.tags, "somebody went on with it"


@pytest.mark.slow
def test_events_are_recorded_while_the_sweep_runs(make_sweep: MakeSweep, tracking: TrackingConfig) -> None:
    sweep = make_sweep(jobs=1)
    writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
    writer.start()
    for step in (1, 2):
        sweep.state(0, "RUNNING")
        sweep.metrics(0, step)
        _wait_until_read(sweep, writer)
        recorded = Recorded(sweep)
        assert recorded.steps(0, "train/loss") == [4, 8][:step]
        assert recorded.statuses() == {-1: "RUNNING", 0: "RUNNING"}
    writer.close({0: "KILLED"})
    assert Recorded(sweep).statuses() == {-1: "KILLED", 0: "KILLED"}


@pytest.mark.slow
def test_jobs_that_come_while_the_sweep_runs_have_runs_too(make_sweep: MakeSweep, tracking: TrackingConfig) -> None:
    sweep = make_sweep(jobs=2)
    writer = SweepWriter(sweep.dir, sweep.records[:1], tracking, sweep.id, COMMAND)
    writer.start()
    sweep.state(0, "RUNNING")
    _wait_until_read(sweep, writer)
    writer.add(sweep.records[1:])
    sweep.state(1, "RUNNING")
    sweep.metrics(1, 1)
    _wait_until_read(sweep, writer)
    assert set(json.loads((sweep.dir / "tracking.json").read_text())["jobs"]) == {"0", "1"}, "kept as it comes"
    writer.close({0: "FINISHED", 1: "FINISHED"})
    recorded = Recorded(sweep)
    assert recorded.statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED"}
    assert recorded.steps(1, "train/loss") == [4]


@pytest.mark.slow
def test_a_job_that_goes_on_is_running_again_until_it_ends(
    make_sweep: MakeSweep, record: Record, tracking: TrackingConfig
) -> None:
    sweep = make_sweep(jobs=2)
    record(sweep, {0: "KILLED", 1: "FINISHED"})
    sweep.records = sweep.records[:1]
    writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
    writer.start()
    sweep.state(0, "RUNNING")
    _wait_until_read(sweep, writer)
    assert Recorded(sweep).statuses() == {-1: "RUNNING", 0: "RUNNING", 1: "FINISHED"}
    writer.close({0: "FINISHED"})
    assert Recorded(sweep).statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED"}


@pytest.mark.slow
def test_a_torn_line_waits_for_its_rest_and_damage_is_passed_over(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    sweep.metrics(0, 1)
    spool = sweep.dir / "spool" / "pack-0.jsonl"
    with spool.open("a") as file:
        file.write('{"t": 1, "kind": "metr\n')
    sweep.metrics(0, 2)
    whole = spool.read_text()
    sweep.metrics(0, 3)
    line = spool.read_text().removeprefix(whole)
    spool.write_text(whole + line[:25])
    record(sweep, {0: "KILLED"})
    assert Recorded(sweep).steps(0, "train/loss") == [4, 8]
    spool.write_text(whole + line)
    record(sweep, {0: "FINISHED"})
    assert Recorded(sweep).steps(0, "train/loss") == [4, 8, 12]


@pytest.mark.slow
def test_what_cannot_be_logged_is_told_and_the_rest_is_logged(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=1)
    sweep.picture(0, 1)
    next((sweep.dir / "0" / "samples").rglob("*.png")).unlink()
    sweep.picture(0, 2)
    next((sweep.dir / "0" / "samples" / "step-00000002").iterdir()).write_bytes(b"no picture")
    sweep.metrics(0, 2, train__loss=0.5, **{"odd;name": 1.0})
    writer = record(sweep, {0: "FINISHED"})
    assert writer.problem is not None
    assert writer.problem.startswith("3 not logged in MLflow, the first: 'odd;name' of job 0")
    assert Recorded(sweep).statuses() == {-1: "FINISHED", 0: "FINISHED"}
    assert Recorded(sweep).steps(0, "train/loss") == [8]


@pytest.mark.slow
def test_two_sweeps_share_a_database_at_the_same_time(make_sweep: MakeSweep, tracking: TrackingConfig) -> None:
    sweeps = [make_sweep("one", jobs=2), make_sweep("two", jobs=2)]
    writers = [SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND) for sweep in sweeps]
    for writer in writers:
        writer.start()
    for step in range(40):
        for sweep in sweeps:
            for job in range(2):
                sweep.metrics(job, step)
        time.sleep(0.01)
    for writer in writers:
        writer.close({0: "FINISHED", 1: "FINISHED"})
        assert writer.problem is None
    for sweep in sweeps:
        recorded = Recorded(sweep)
        assert len(recorded.runs) == 3
        for job in range(2):
            assert recorded.steps(job, "train/loss") == [4 * step for step in range(40)]


def test_disabled_tracking_leaves_nothing_behind(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep = make_sweep(jobs=1)
    off = place(enabled=False, root=str(tmp_path / "none"), experiment="e")
    writer = SweepWriter(sweep.dir, sweep.records, off, sweep.id, COMMAND)
    writer.start()
    writer.close({0: "FINISHED"})
    assert writer.problem is None
    assert not (tmp_path / "none").exists()
    assert not (sweep.dir / "tracking.json").exists()


@pytest.mark.parametrize("uri", ["file:///tmp/runs", "runs", "/tmp/runs"])
def test_a_folder_as_store_is_refused_before_anything_starts(make_sweep: MakeSweep, tmp_path: Path, uri: str) -> None:
    sweep = make_sweep(jobs=1)
    config = place(uri=uri, root=str(tmp_path), experiment="e")
    with pytest.raises(TrackingError, match=r"tracking\.uri: got .* a folder, .*sqlite:"):
        SweepWriter(sweep.dir, sweep.records, config, sweep.id, COMMAND)


@pytest.mark.slow
def test_the_launcher_imports_neither_mlflow_nor_torch_with_the_writer() -> None:
    loads = "lora_foundry.tracking, lora_foundry.report, lora_foundry.commands.track"
    code = f"import sys, {loads}; print(sorted({{'mlflow', 'torch', 'PIL'}} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def _wait_until_read(sweep: Sweep, writer: SweepWriter) -> None:
    size = (sweep.dir / "spool" / "pack-0.jsonl").stat().st_size
    deadline = time.monotonic() + 30.0
    while json.loads((sweep.dir / "tracking.json").read_text())["offsets"].get("pack-0.jsonl") != size:
        assert time.monotonic() < deadline, writer.problem
        time.sleep(0.02)
