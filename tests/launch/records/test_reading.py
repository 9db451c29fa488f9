"""How jobs ended, where no launcher was there to journal it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_foundry.launch.records.reading import read_results


def _spool(folder: Path, name: str, *states: tuple[float, str]) -> None:
    lines: list[dict[str, Any]] = [{"t": at, "kind": "state", "job": 0, "state": state} for at, state in states]
    (folder / "spool").mkdir(exist_ok=True)
    (folder / "spool" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _state(folder: Path) -> str:
    job = {"job": 0, "name": "a", "dir": "0", "overrides": {}, "rank": 4, "pack": "pack-0"}
    (folder / "sweep.json").write_text(json.dumps({"id": "x", "command": "", "created": 0, "jobs": [job]}))
    return read_results(folder)[0].state


def test_the_latest_spool_counts(tmp_path: Path) -> None:
    _spool(tmp_path, "pack-0", (10.0, "KILLED"))
    _spool(tmp_path, "resume-0", (20.0, "FAILED"))
    assert _state(tmp_path) == "FAILED"


def test_what_finished_at_last_has_finished_although_a_clock_was_set_back(tmp_path: Path) -> None:
    _spool(tmp_path, "pack-0", (5000.0, "KILLED"))
    _spool(tmp_path, "resume-0", (20.0, "FINISHED"))
    assert _state(tmp_path) == "FINISHED"


def test_the_first_end_of_a_spool_counts(tmp_path: Path) -> None:
    _spool(tmp_path, "pack-0", (1.0, "FINISHED"), (2.0, "FAILED"))
    assert _state(tmp_path) == "FINISHED"
