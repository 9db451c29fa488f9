"""What steps took, as a file keeps it between processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_foundry.memory.paces import Paces, note_paces, path_of
from tests.launch.jobs import job


def _flat(_: float) -> float:
    return 1.0


def test_what_a_worker_noted_a_plan_reads_and_the_line_is_what_it_was(tmp_path: Path) -> None:
    config = job(data__cache_dir=str(tmp_path))
    note_paces(config, "cpu", 2, [(4, 8, 0.1234567), (1, 2, 0.05)])
    first = json.loads(path_of(config).read_text().splitlines()[0])
    assert list(first) == ["t", "kind", "device", "threads", "members", "rows", "s"]
    assert (first["members"], first["rows"], first["s"]) == (4, 8, 0.123457)
    paces = Paces(config)
    assert paces.step_s(config, "cpu", 2, 4, 8, _flat) == (0.123457, "measured")
    assert paces.step_s(config, "cpu", None, 1, 3, _flat) == (0.05, "estimated")
    assert paces.step_s(config, "cpu", 1, 4, 8, _flat) is None, "of other threads nothing is known"


@pytest.mark.parametrize("torn", ["", "{", "null", "[]", '{"t": 1.0}', '{"kind": "x", "device": "cpu", "s": "soon"}'])
def test_a_line_that_is_none_costs_nobody_the_others(tmp_path: Path, torn: str) -> None:
    config = job(data__cache_dir=str(tmp_path))
    note_paces(config, "cpu", 2, [(1, 2, 0.05)])
    with path_of(config).open("a") as file:
        file.write(torn + "\n")
    note_paces(config, "cpu", 2, [(1, 2, 0.07)])
    assert Paces(config).step_s(config, "cpu", 2, 1, 2, _flat) == (pytest.approx(0.06), "measured")
