"""Survivors of ``make mutate`` and their reasons; the mutants themselves take an hour and are not tried here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.mutate import LEAST, RESULTS, TESTS, Mutant, compare, copy_tree, read_reasons
from tests.root import PROJECT_ROOT

REASONS = read_reasons()


@pytest.mark.parametrize("mutant", REASONS, ids=lambda mutant: f"{mutant.function}: {mutant.now[:40]}")
def test_a_reason_is_of_code_that_is_there(mutant: Mutant) -> None:
    source = " ".join((PROJECT_ROOT / mutant.file).read_text().split())
    assert mutant.file in TESTS
    assert f"def {mutant.function.rpartition('.')[2]}(" in source
    assert " ".join(mutant.was.split()) in source
    assert mutant.now != mutant.was
    assert len(REASONS[mutant].split()) >= 4, "a reason is a sentence"


def test_what_is_kept_is_of_files_that_are_tried() -> None:
    assert set(json.loads(RESULTS.read_text())) <= set(TESTS)


def test_every_file_is_tried_by_tests_that_exist() -> None:
    for file, names in TESTS.items():
        assert (PROJECT_ROOT / file).exists()
        for name in names:
            path, *rest = name.split("::")
            assert (PROJECT_ROOT / path).exists(), name
            if rest:
                function = re.sub(r"\[.*", "", rest[0])
                assert f"def {function}(" in (PROJECT_ROOT / path).read_text(), name


def _kept(mutants: int, *survivors: str) -> dict[str, Any]:
    told = [{"function": "snr", "was": "a", "now": now} for now in survivors]
    return {"mutants": mutants, "killed": mutants - len(told), "untried": 0, "survivors": told}


def test_too_few_killed_no_reason_and_a_reason_too_many_are_told() -> None:
    file = "src/lora_foundry/objectives/weighting.py"
    known, gone = (Mutant(file=file, function="snr", was="a", now=now) for now in ("b", "gone"))
    assert compare({file: _kept(100, "b")}, {known: "it is the same"}) == []
    (problem,) = compare({file: _kept(100, "b", "c")}, {known: "it is the same"})
    assert problem.startswith("no reason in mutants.toml: src/lora_foundry/objectives/weighting.py, snr: a  ->  c")
    (problem,) = compare({file: _kept(100, "b")}, {known: "same", gone: "same"})
    assert problem == "killed or gone, but has a reason: src/lora_foundry/objectives/weighting.py, snr: gone"
    (problem,) = compare({file: _kept(10, "b")}, {known: "same"})
    assert problem == f"9 of 10 mutants were killed, allowed is at least {LEAST:.0%}"


def test_a_copy_keeps_the_times_of_what_did_not_change(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    copied = tmp_path / "src" / "lora_foundry" / "objectives" / "losses.py"
    before, stray = copied.stat().st_mtime_ns, tmp_path / "tests" / "test_that_is_no_more.py"
    stray.touch()
    copy_tree(tmp_path)
    assert copied.stat().st_mtime_ns == before
    assert not stray.exists()
