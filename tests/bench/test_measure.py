"""How results are timed, kept and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import measure, render
from bench.measure import Claim, Result, Table, interleave, ratio
from tests.root import PROJECT_ROOT


def a_result(*, quick: bool = False) -> Result:
    claim = Claim(what="a | b", measured="2.0x", limit="at least 3x", holds=False)
    table = Table(title="Details", columns=["x", "y"], rows=[["1", "2"]])
    return Result(name="step", title="The step", how="So.", quick=quick, claims=[claim], tables=[table])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["step", "--example", "/home/someone/example.py"])


def test_cases_take_turns_and_warm_up_rounds_are_not_counted() -> None:
    called: list[str] = []
    seconds = interleave({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2, warm_up=1)
    assert called == ["a", "b"] * 3
    assert [len(seconds[name]) for name in "ab"] == [2, 2]


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_moment_cancels() -> None:
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == 0.5


def test_a_result_is_kept_with_its_circumstances_and_without_paths_of_the_machine() -> None:
    kept = json.loads(a_result().save().read_text())
    assert kept["command"] == "python -m bench.step --example .../example.py"
    assert {"date", "machine", "load", "versions", "claims", "tables"} <= kept.keys()


def test_a_quick_look_is_kept_apart_from_a_full_measurement() -> None:
    assert a_result(quick=True).save().name == "step-quick.json"
    assert a_result().save().name == "step.json"


def test_the_page_shows_claims_that_do_not_hold_and_leaves_quick_looks_out(tmp_path: Path) -> None:
    a_result().save()
    a_result(quick=True).save()
    page = render.page(measure.load_results(tmp_path))
    assert "| a \\| b | 2.0x | at least 3x | **no** |" in page
    assert page.count("## The step") == 1


def test_the_committed_page_is_what_the_committed_results_say() -> None:
    results = measure.load_results(PROJECT_ROOT / "bench" / "results")
    assert (PROJECT_ROOT / "docs/benchmarks.md").read_text() == render.page(results), "run `python -m bench.render`"
