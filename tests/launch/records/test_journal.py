"""The journal survives kills, and its owner is the only one."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lora_foundry.config.errors import FORMAT, NewerFormatError, SweepError
from lora_foundry.launch.records.journal import FILE, Journal, SweepBusyError, is_held, read_journal
from lora_foundry.launch.records.reading import read_results
from lora_foundry.wire.journal import JobLine
from tests.phrases import ALLOWED_UP_TO, BUSY
from tests.wire.summaries import summary


def _last_states(folder: Path) -> dict[int, str]:
    return {line.job: line.state for line in read_journal(folder) if isinstance(line, JobLine)}


def test_lines_are_whole_on_the_disk_before_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("lora_foundry.wire.appending.os.fsync", lambda _: synced.append(len(read_journal(tmp_path))))
    with Journal(tmp_path) as journal:
        for job in range(2):
            journal.write(JobLine(job=job, state="RUNNING", error=None, summary=None))
        assert [line.job for line in read_journal(tmp_path) if isinstance(line, JobLine)] == [0, 1]
        assert synced == [0, 1, 2], "the first line tells the format, and each line is synced after it was written"


def test_a_torn_line_is_passed_over_and_the_next_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"t": 1.0, "event": "job", "job": 0, "state": "FINISHED"}\n{"event": "jo')
    with Journal(tmp_path) as journal:
        journal.write(JobLine(job=1, state="FAILED", error="x", summary=None))
    assert _last_states(tmp_path) == {0: "FINISHED", 1: "FAILED"}


def test_a_second_owner_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(SweepBusyError, match=BUSY):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_a_worker_holds_the_sweep_after_its_launcher_has_gone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[journal.fileno()]
    ) as worker:
        journal.close()
        with pytest.raises(SweepBusyError):
            Journal(tmp_path)
        worker.communicate(b"\n")
    Journal(tmp_path).close()


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """The kernel lets go of it: there is no stale lock to clean up, and no file whose age decides."""
    holding = (
        "import sys, time; from pathlib import Path; from lora_foundry.launch.records.journal import Journal; "
        "kept = Journal(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holding, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert is_held(tmp_path)
        with pytest.raises(SweepBusyError):
            Journal(tmp_path)
        owner.kill()
    assert not is_held(tmp_path)
    with Journal(tmp_path) as journal:
        journal.write(JobLine(job=0, state="KILLED", error=None, summary=None))
    assert _last_states(tmp_path) == {0: "KILLED"}


def test_somebody_who_only_looks_is_no_owner(tmp_path: Path) -> None:
    """``src.status`` takes the lock for a moment to see whether anybody has it."""
    Journal(tmp_path).close()
    looking = os.open(tmp_path / FILE, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [looking]).start()
    Journal(tmp_path).close()


def test_the_first_line_names_the_format_and_is_no_event(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write(JobLine(job=0, state="RUNNING", error=None, summary=None))
    with Journal(tmp_path) as journal:
        journal.write(JobLine(job=0, state="FINISHED", error=None, summary=None))
    first, *others = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert (first["event"], first["format"]) == ("journal", FORMAT)
    assert [line["event"] for line in others] == ["job", "job"]
    assert [type(line) for line in read_journal(tmp_path)] == [JobLine, JobLine]


def test_a_journal_of_a_newer_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"t": 1.0, "event": "journal", "format": FORMAT + 6}) + "\n")
    for opening in (Journal, read_journal):
        with pytest.raises(NewerFormatError, match=f"got format {FORMAT + 6}, {ALLOWED_UP_TO} {FORMAT}"):
            opening(tmp_path)
    assert not is_held(tmp_path), "and it is not kept locked"


def test_a_journal_without_a_format_is_of_the_first(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"t": 1.0, "event": "job", "job": 0, "state": "FINISHED"}\n')
    with Journal(tmp_path) as journal:
        journal.write(JobLine(job=1, state="FAILED", error="x", summary=None))
    assert [line.job for line in read_journal(tmp_path) if isinstance(line, JobLine)] == [0, 1]
    assert len((tmp_path / FILE).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\0\n", b"\xff\xfe{}\n", b"[1, 2]\n", b"null\n", b'{"event": 5}\n', b"\n\n"]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_garbage_anywhere_costs_that_line_alone(tmp_path: Path, garbage: bytes, place: int) -> None:
    with Journal(tmp_path) as journal:
        journal.write(JobLine(job=0, state="FINISHED", error=None, summary=None))
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join([*lines[:place], garbage, *lines[place:]]))
    with Journal(tmp_path) as journal:
        journal.write(JobLine(job=1, state="FAILED", error="x", summary=None))
    assert _last_states(tmp_path) == {0: "FINISHED", 1: "FAILED"}


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SweepError, match=r"file cannot be written \(Not a directory\)"):
        Journal(tmp_path / "file")


def _sweep(tmp_path: Path) -> Path:
    jobs = [{"job": n, "name": f"n{n}", "dir": str(n), "rank": 4, "overrides": {}, "pack": "pack-0"} for n in range(4)]
    (tmp_path / "sweep.json").write_text(json.dumps({"id": "x", "command": "", "created": 0, "jobs": jobs}))
    (tmp_path / "spool").mkdir()
    return tmp_path


def _event(t: float, job: int, state: str, **more: object) -> str:
    return (
        json.dumps({"t": t, "kind": "state", "job": job, "state": state, "error": None, "summary": None, **more}) + "\n"
    )


def test_results_are_found_again_after_a_killed_launcher(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    with Journal(sweep) as journal:
        for job, state in ((0, "RUNNING"), (0, "FINISHED"), (1, "RUNNING"), (2, "RUNNING")):
            journal.write(
                JobLine(job=job, state=state, error=None, summary=summary(val_loss=0.5) if job == 0 else None)
            )
    (sweep / "spool" / "pack-0.jsonl").write_text(_event(1, 1, "FINISHED", summary={"val_loss": 0.25}))
    results = read_results(sweep)
    assert [result.state for result in results] == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    assert [result.summary and result.summary.val_loss for result in results] == [0.5, 0.25, None, None]


def test_the_first_end_of_a_spool_counts_and_the_latest_spool(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    (sweep / "spool" / "pack-0.jsonl").write_text(
        _event(1, 0, "FINISHED") + _event(2, 0, "FAILED") + _event(1, 1, "FAILED", error="x")
    )
    (sweep / "spool" / "resume-0.jsonl").write_text(_event(5, 1, "FINISHED"))
    assert [result.state for result in read_results(sweep)][:2] == ["FINISHED", "FINISHED"]
