"""How jobs ended, where no launcher was there to journal it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.reading import read_results, read_state
from lora_foundry.wire.journal import BeganLine, JobLine, JournalLine, ResumedLine
from tests.wire.summaries import summary


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


def test_an_earlier_end_in_a_spool_of_a_later_name_does_not_count(tmp_path: Path) -> None:
    _spool(tmp_path, "pack-0", (10.0, "KILLED"))
    _spool(tmp_path, "pack-1", (5.0, "FAILED"))
    assert _state(tmp_path) == "KILLED"


def _journal(folder: Path, *lines: JournalLine) -> None:
    with Journal(folder) as journal:
        for line in lines:
            journal.write(line)


def _resumed(at: float) -> tuple[JournalLine, ...]:
    return (
        JobLine(t=at - 10.0, job=0, state="FAILED", error="x", summary=None),
        ResumedLine(t=at, job=0, spool="resume-0.jsonl"),
    )


def test_an_end_of_the_time_before_a_job_was_resumed_is_none(tmp_path: Path) -> None:
    """It was tried again, and its launcher was killed: it is lost, and not FAILED as it was before."""
    _spool(tmp_path, "pack-0", (89.0, "FAILED"))
    _journal(tmp_path, *_resumed(100.0))
    assert _state(tmp_path) == "KILLED"
    assert read_state(tmp_path).jobs[0].state == "PENDING"


def test_what_finished_in_the_spool_of_its_resume_has_finished_although_a_clock_was_set_back(tmp_path: Path) -> None:
    _journal(tmp_path, *_resumed(5000.0))
    _spool(tmp_path, "resume-0", (20.0, "FINISHED"))
    assert _state(tmp_path) == "FINISHED"


def test_an_end_far_from_the_spools_end_is_found_where_nobody_is_left_to_journal_it(tmp_path: Path) -> None:
    _spool(tmp_path, "pack-0", (1.0, "FINISHED"))
    with (tmp_path / "spool" / "pack-0.jsonl").open("a") as file:
        file.write((json.dumps({"t": 2.0, "kind": "log", "level": "info", "message": "x" * 990}) + "\n") * 600)
    assert _state(tmp_path) == "FINISHED"
    assert read_state(tmp_path, running=True).jobs[0].state == "PENDING", "of one that is followed, the end is read"


def test_a_job_that_goes_on_stands_where_it_stood_and_has_no_speed_yet(tmp_path: Path) -> None:
    _spool(tmp_path, "pack-0")
    progress = {"t": 50.0, "kind": "progress", "job": 0, "step": 5, "total": 9, "samples": 5, "samples_per_s": 2.5}
    (tmp_path / "spool" / "pack-0.jsonl").write_text(json.dumps(progress) + "\n")
    _journal(tmp_path, BeganLine(t=40.0, pack="pack-0", slot="cpu", jobs=(0,)), *_resumed(100.0))
    _state(tmp_path)
    job = read_state(tmp_path).jobs[0]
    assert (job.step, job.total, job.samples_per_s, job.error) == (5, 9, None, None)


def test_a_job_that_had_finished_begins_anew(tmp_path: Path) -> None:
    told = JobLine(t=80.0, job=0, state="FINISHED", error=None, summary=summary(steps=9, samples_per_s=2.5))
    _journal(tmp_path, told)
    _state(tmp_path)
    assert read_state(tmp_path).jobs[0].step == 9
    _journal(tmp_path, ResumedLine(t=100.0, job=0, spool="resume-0.jsonl"))
    job = read_state(tmp_path).jobs[0]
    assert (job.state, job.step, job.total, job.summary) == ("PENDING", None, None, None)
