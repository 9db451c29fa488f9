"""The GPU's bench: what it compares, what it computes, and that it runs where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gpu, measure, render
from bench.gpu import GIB, Case, Measured, cases, judge
from src.config.paths import PROJECT_ROOT


def test_the_cases_are_one_job_processes_and_packs_at_every_batch() -> None:
    listed = cases((1, 2, 4, 8), (1, 2, 4))
    assert len(listed) == 3 * (1 + 2 * 3)
    assert Case(way="processes", jobs=8, batch=4) in listed
    assert Case(way="pack", jobs=8, batch=4) in listed
    assert sum(case.way == "one" for case in listed) == 3


def test_images_memory_and_adapters_are_those_of_all_jobs_together() -> None:
    one, pack = Case(way="one", jobs=1, batch=2), Case(way="pack", jobs=4, batch=2)
    full = Case(way="processes", jobs=4, batch=2)
    found = {
        one: Measured(images_per_s=10.0, step_s=0.2, peak=2 * GIB, card=3 * GIB),
        pack: Measured(images_per_s=30.0, step_s=0.27, peak=4 * GIB, card=5 * GIB),
        full: None,
    }
    result = judge(found, {one: 2 * GIB, pack: 5 * GIB, full: 8 * GIB}, device="a card", seconds=5.0, quick=False)
    rows = result.tables[0].rows
    assert rows[0] == ["2", "one job", "10.00", "1.00x", "200", "3.00", "2.00", "2.00", "+0.0 %", "18.0"]
    # 30 images/s are 15 samples of batch 2 a second, and an adapter takes 1000: 54 an hour.
    assert rows[1] == ["2", "a pack of 4", "30.00", "3.00x", "270", "5.00", "4.00", "5.00", "+25.0 %", "54.0"]
    assert rows[2][:3] == ["2", "4 processes", "out of memory"]
    assert not result.claims[0].holds
    assert result.claims[0].measured == "+25.0 %"


def test_a_pack_is_predicted_to_take_less_than_as_many_processes(tmp_path: Path) -> None:
    overrides = [*gpu.TOY, f"data.cache_dir={tmp_path}"]
    alone = gpu.predict(Case(way="one", jobs=1, batch=1), overrides)
    assert gpu.predict(Case(way="processes", jobs=4, batch=1), overrides) == 4 * alone
    assert gpu.predict(Case(way="pack", jobs=4, batch=1), overrides) < 2 * alone


def test_there_is_a_section_only_where_a_result_is() -> None:
    assert "gpu" in render.ORDER
    kept = measure.load_results(PROJECT_ROOT / "bench" / "results")
    assert ("## Jobs, processes and packs on a GPU" in render.page(kept)) == ("gpu" in kept)


@pytest.mark.slow
def test_one_command_runs_it_small_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["gpu", "--small", "--seconds", "0.1"])
    gpu.main()
    assert not (tmp_path / "gpu.json").exists(), "a small look is kept apart"
    kept = json.loads((tmp_path / "gpu-quick.json").read_text())
    assert "the CPU (a small look)" in kept["machine"]
    rows = kept["tables"][0]["rows"]
    assert [row[1] for row in rows] == ["one job", "2 processes", "a pack of 2"]
    for row in rows:
        assert float(row[2]) > 0
        assert float(row[6]) > 0
        assert float(row[7]) > 0
        assert float(row[9]) > 0


@pytest.mark.slow
def test_a_process_that_falls_over_is_no_result(tmp_path: Path) -> None:
    overrides = [*gpu.TOY, f"data.cache_dir={tmp_path}", "lora.rank=0"]
    with pytest.raises(RuntimeError, match="ended with status 1"):
        gpu.measure(Case(way="one", jobs=1, batch=1), overrides, seconds=0.1, small=True)
