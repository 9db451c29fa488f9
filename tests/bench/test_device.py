"""The bench of a card: that it runs where there is none, says what it left out, and never passes a fault over."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from bench import measure, render
from bench.device import __main__ as device
from bench.device import launching, processes
from bench.device.correctness import apart
from bench.device.stage import Stage
from bench.device.timing import Measured
from bench.measure import Result
from tests import nursery


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    result = Result(name="device", title="On a card", how="", quick=True)
    return Stage(device=torch.device("cpu"), folder=tmp_path, minutes=1.0, result=result)


@pytest.mark.slow
def test_a_section_that_falls_over_is_told_and_the_next_one_runs(stage: Stage) -> None:
    def broken(_: Stage) -> None:
        msg = "no kernel image is available"
        raise RuntimeError(msg)

    stage.run("broken", broken, 0.0)
    stage.run("sound", lambda at: at.row(at.table("Sound", "figure"), "1"), 0.0)
    assert stage.failed == ["broken"]
    tables = {table.title: table.rows for table in stage.result.tables}
    assert tables["Left out"] == [["broken", "fell over: RuntimeError: no kernel image is available"]]
    assert tables["Sound"] == [["1"]]


@pytest.mark.slow
def test_what_was_found_is_on_the_disk_after_each_section(stage: Stage, tmp_path: Path) -> None:
    stage.run("first", lambda at: at.row(at.table("First", "figure"), "1"), 0.0)
    kept = json.loads((tmp_path / "results" / "device-quick.json").read_text())
    assert kept["tables"][0]["rows"] == [["1"]]


def test_a_section_for_which_there_is_no_time_is_not_begun_and_named(stage: Stage) -> None:
    stage.started = time.monotonic() - 50.0
    stage.run("long", lambda _: pytest.fail("begun"), 30.0)
    assert not stage.failed
    section, why = stage.result.tables[0].rows[0]
    assert section == "long"
    assert why.startswith("not begun: ")


def test_adapters_an_hour_are_those_of_all_jobs_together() -> None:
    # 30 images/s are 15 samples of batch 2 a second, and an adapter takes 1000: 54 an hour.
    assert Measured(step_s=0.27, images_per_s=30.0, tensors=None, held=None).adapters_an_hour(2) == pytest.approx(54.0)


def test_the_distance_is_that_of_the_worst_adapter() -> None:
    one = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 2.2])}
    other = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 2.0])}
    assert apart(one, other) == pytest.approx(0.1)


def test_without_a_card_it_says_what_runs_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["device"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.main() == 2
    assert "--cpu" in capsys.readouterr().err


def test_the_page_says_not_measured_until_there_are_figures() -> None:
    known = {"step": measure.load_results()["step"]}
    assert "Not measured yet" in render.page(known)
    assert "Not measured yet" not in render.page({**known, "device": {**known["step"], "title": "On a card"}})


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on a quiet core
def test_every_section_runs_small_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for starts in (launching, processes):
        monkeypatch.setattr(starts, "subprocess", nursery.SUBPROCESS)
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["device", "--cpu"])
    assert device.main() == 0
    assert not (tmp_path / "device.json").exists(), "a small look is kept apart"
    kept = json.loads((tmp_path / "device-quick.json").read_text())
    assert "the CPU (a small look)" in kept["machine"]
    assert all(claim["holds"] for claim in kept["claims"])
    tables = {table["title"]: table["rows"] for table in kept["tables"]}
    no_card = {"graphs": "a CPU has none", "peers": "kohya: its UNet has one size"}
    assert dict(tables["Left out"]) == no_card
    peers = tables["Beside other trainers' classes, rank 8, bf16"]
    assert [row[2] for row in peers] == ["diffusers and PEFT", "ours, alone", "ours, 4 in a pack"]
    found = [row[1] for row in tables["Jobs, processes and packs on the embedded base"]]
    assert found == ["one job", "2 processes", "a pack of 2"]
    assert len(tables["Kernels of 1 x 1 on attention, a step"]) == 10
    assert tables["A pack of 4 of batch 4 under a limit"][0][2] == "4 of 4"
    assert [row[1] for row in tables["Two workers through the launcher"]] == ["FINISHED", "FINISHED", "exit code 0"]
    assert len({row[3] for row in tables["Two workers through the launcher"][:2]}) == 2, "each on a slot of its own"
