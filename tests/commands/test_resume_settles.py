"""A sweep whose workers ended every job after its launcher had been killed: its own end is made up for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_foundry.commands import resume
from lora_foundry.launch.records.journal import FILE as JOURNAL
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.reading import read_results
from lora_foundry.wire.outcomes import FILE
from tests.commands.ran import Command
from tests.launch.seeds import Seed, seeds
from tests.phrases import NOTHING_TO_DO, NOTHING_TO_TRAIN


def _kill_the_launcher_before_the_end(sweep_dir: Path) -> None:
    """What is left when it dies while its last pack trains: the workers' spool tells of ends, its journal does not."""
    journal = sweep_dir / JOURNAL
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    kept = [
        line
        for line in lines
        if line["event"] not in ("ended", "judged")
        and not (line["event"] == "job" and line["state"] in ("FINISHED", "FAILED"))
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in kept))
    (sweep_dir / FILE).unlink()


def test_the_table_and_the_results_are_made_once(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    before = command("seed=1,2", "-m").results()
    assert resume.main([str(folder)]) == 0
    assert NOTHING_TO_DO in capsys.readouterr().out, "a sweep that ended is not settled again"
    _kill_the_launcher_before_the_end(folder)
    assert resume.main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "only the end is made up for" in out
    assert "\nBest:     no difference that 4 images can show between" in out
    assert {row["job"]: row for row in json.loads((folder / FILE).read_text())} == before
    assert resume.main([str(folder)]) == 0
    assert NOTHING_TO_DO in capsys.readouterr().out


def test_a_failed_job_is_told_by_the_exit_code(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert command(seeds(1, Seed.DIVERGES), "-m").code == 1
    states = [result.state for result in read_results(folder)]
    _kill_the_launcher_before_the_end(folder)
    assert resume.main([str(folder)]) == 1
    assert [result.state for result in read_results(folder)] == states == ["FINISHED", "FAILED"]


def test_nobody_settles_a_sweep_that_another_works_in(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    command("seed=1,2", "-m")
    _kill_the_launcher_before_the_end(folder)
    with Journal(folder):
        assert resume.main([str(folder)]) == 2
    assert "in use" in capsys.readouterr().err
    assert not (folder / FILE).exists()


def test_skip_finished_settles_it_too(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    words = ("seed=1,2", "-m", "hydra.launcher.skip_finished=true")
    before = command(*words).results()
    _kill_the_launcher_before_the_end(folder)
    ran = command(*words)
    assert ran.code == 0, ran.out
    assert NOTHING_TO_TRAIN in ran.out
    assert ran.results() == before
