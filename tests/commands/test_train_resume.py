"""``resume=<job folder>`` through the command line, with a worker that trains nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lora_foundry.launch.records.journal import Journal, read_journal
from lora_foundry.wire.journal import ResumedLine
from tests.commands.ran import Command, Ran
from tests.launch.seeds import Seed, seeds
from tests.phrases import BUSY, NO_CHECKPOINT, NO_FOLDER


@pytest.fixture(scope="module")
def once() -> dict[str, Path]:
    return {}


@pytest.fixture
def stopped(command: Command, once: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Ran:
    """A sweep of two, the second of which failed after its first checkpoints: trained once, copied for each test."""
    if "sweep" not in once:
        once["sweep"] = tmp_path_factory.mktemp("once") / "sweep"
        command(seeds(0, Seed.DIVERGES), "-m", sweep_dir=once["sweep"])
    shutil.copytree(once["sweep"], tmp_path / "sweep")
    return Ran(code=1, out="", err="", sweep_dir=tmp_path / "sweep")


def _mend(job_dir: Path) -> None:
    """Let the fake worker's failure be over: it reads the seed from the stored configuration."""
    file = job_dir / ".hydra" / "config.yaml"
    config = OmegaConf.load(file)
    config.seed = 1
    OmegaConf.save(config, file)


def test_a_job_continues_in_its_own_folder_with_its_stored_configuration_and_name(
    command: Command, stopped: Ran
) -> None:
    job_dir = stopped.sweep_dir / "1"
    _mend(job_dir)
    ran = command(f"resume={job_dir}", sweep_dir=None)

    assert ran.code == 0, ran.err
    pack = [line for line in stopped.commands() if line["cmd"] == "pack"][-1]
    assert pack["jobs"] == [{"job": 1, "dir": str(job_dir), "name": "duotone-rank8-seed13", "resume": True}]
    assert pack["spool"] == str(stopped.sweep_dir / "spool" / "resume-0.jsonl")
    assert stopped.states() == {"duotone-rank8-seed0": "FINISHED", "duotone-rank8-seed13": "FINISHED"}
    assert stopped.results()[1]["summary"]["resumed"] is True
    assert [line.job for line in read_journal(stopped.sweep_dir) if isinstance(line, ResumedLine)] == [1]
    assert sorted(path.name for path in stopped.sweep_dir.iterdir() if path.name.isdigit()) == ["0", "1"]


def test_it_works_a_second_time_and_on_a_finished_job(command: Command, stopped: Ran) -> None:
    job_dir = stopped.sweep_dir / "0"
    for number in range(2):
        assert command(f"resume={job_dir}/", sweep_dir=None).code == 0
        assert (stopped.sweep_dir / "spool" / f"resume-{number}.jsonl").is_file()
    assert stopped.states()["duotone-rank8-seed0"] == "FINISHED"
    assert stopped.states()["duotone-rank8-seed13"] == "FAILED", "the other job is as it was"


def test_a_resume_that_fails_again_says_so(command: Command, stopped: Ran) -> None:
    assert command(f"resume={stopped.sweep_dir}/1", sweep_dir=None).code == 1
    assert stopped.states()["duotone-rank8-seed13"] == "FAILED"


def test_other_overrides_are_refused_by_name(command: Command, stopped: Ran) -> None:
    ran = command(f"resume={stopped.sweep_dir}/1", "lora.rank=4", "data=emoji-flat", sweep_dir=None)
    assert ran.code == 2
    assert "lora.rank=4: not together with resume=" in ran.err
    assert "data=emoji-flat: not together with resume=" in ran.err
    assert "tracking" not in ran.err.replace("hydra.*, tracking.*", "")
    assert len([line for line in stopped.commands() if line["cmd"] == "pack"]) == 1, "nothing was started"


def test_several_folders_are_refused(command: Command, stopped: Ran) -> None:
    ran = command(f"resume={stopped.sweep_dir}/0,{stopped.sweep_dir}/1", "-m", sweep_dir=None)
    assert ran.code == 2
    assert "one job is resumed at a time" in ran.err


def test_a_sweeps_folder_instead_of_a_jobs_names_its_jobs(command: Command, stopped: Ran) -> None:
    ran = command(f"resume={stopped.sweep_dir}", sweep_dir=None)
    assert ran.code == 2
    assert f"its jobs are 0, 1: resume={stopped.sweep_dir}/0" in ran.err


def test_a_missing_folder_and_a_strange_one_are_told_apart(command: Command, tmp_path: Path) -> None:
    missing = command(f"resume={tmp_path}/nowhere", sweep_dir=None)
    assert (missing.code, NO_FOLDER in missing.err) == (2, True)
    (tmp_path / "strange").mkdir()
    strange = command(f"resume={tmp_path}/strange", sweep_dir=None)
    assert (strange.code, "which holds no job" in strange.err) == (2, True)


def test_without_a_checkpoint_the_command_to_train_it_anew_is_shown(command: Command, stopped: Ran) -> None:
    for file in (stopped.sweep_dir / "1" / "checkpoints").iterdir():
        file.unlink()
    ran = command(f"resume={stopped.sweep_dir}/1", sweep_dir=None)
    assert ran.code == 2
    assert NO_CHECKPOINT in ran.err
    assert f"python -m src.train {seeds(Seed.DIVERGES)}" in ran.err


def test_a_sweep_that_still_runs_is_not_resumed(command: Command, stopped: Ran) -> None:
    with Journal(stopped.sweep_dir):
        ran = command(f"resume={stopped.sweep_dir}/1", sweep_dir=None)
    assert ran.code == 2
    assert BUSY in ran.err


def test_a_broken_stored_configuration_is_told_by_file_and_key(command: Command, stopped: Ran) -> None:
    file = stopped.sweep_dir / "1" / ".hydra" / "config.yaml"
    file.write_text(file.read_text().replace("rank: 8", "rank: -8"))
    ran = command(f"resume={stopped.sweep_dir}/1", sweep_dir=None)
    assert ran.code == 2
    assert f"{file}: lora.rank: got -8" in ran.err


def test_a_moved_sweep_resumes_where_it_lies_now(command: Command, stopped: Ran, tmp_path: Path) -> None:
    moved = stopped.sweep_dir.rename(tmp_path / "moved")
    assert command(f"resume={moved}/0", sweep_dir=None).code == 0
    assert json.loads((moved / "results.json").read_text())[0]["state"] == "FINISHED"
