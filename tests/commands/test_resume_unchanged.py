"""Resuming compares configuration and data before anything starts, with a worker that trains nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lora_foundry.commands import resume
from lora_foundry.config.digest import config_digest
from lora_foundry.launch.records.folders import create_sweep
from lora_foundry.training.job_config import read_config
from tests.commands.ran import Command
from tests.commands.stopping import began, ends, stopped_after
from tests.launch.seeds import Seed, seeds
from tests.phrases import NOT_STARTED, NOTHING_TO_DO

DATA = "data=folder data.name=photos data.resolution=64"


@pytest.fixture
def words(photos: Path) -> list[str]:
    return [*DATA.split(), f"data.path={photos}", "-m"]


@pytest.fixture
def stopped(command: Command, words: list[str], tmp_path: Path) -> Path:
    """Two jobs, one a pack: the first finished, the second stopped; it would end now."""
    folder = tmp_path / "sweep"
    with stopped_after(folder, finished=1):
        ran = command(seeds(1, Seed.ENDLESS), "hydra.launcher.pack_size=1", *words)
    assert ran.code == 130, ran.out
    assert list(ran.states().values()) == ["FINISHED", "KILLED"]
    (folder / "let-end").touch()
    return folder


def test_what_finished_is_skipped_with_the_reason(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resume.main([str(stopped)]) == 0
    shown = capsys.readouterr().out
    assert "skipped: finished, same config and data: photos-rank8-seed1\n" in shown
    assert "photos-rank8-seed77 (KILLED) goes on from its last checkpoint" in shown
    assert began(stopped) == [[0], [1], [1]]
    assert resume.main([str(stopped)]) == 0
    shown = capsys.readouterr().out
    assert "skipped: finished, same config and data: photos-rank8-seed1, photos-rank8-seed77\n" in shown
    assert NOTHING_TO_DO in shown


@pytest.mark.parametrize("harm", ["altered", "added", "removed", "caption", "gone"])
def test_changed_data_is_refused_before_anything_starts(
    stopped: Path, photos: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    if harm == "altered":
        (photos / "b.png").write_bytes(b"another")
    elif harm == "added":
        (photos / "g.png").write_bytes(b"new")
        (photos / "g.txt").write_text("new")
    elif harm == "removed":
        (photos / "b.png").unlink()
        (photos / "b.txt").unlink()
    elif harm == "caption":
        (photos / "c.txt").write_text("other words")
    else:
        photos.rename(photos.with_name("elsewhere"))
    before = (stopped / "journal.jsonl").read_bytes()
    capsys.readouterr()
    assert resume.main([str(stopped)]) == 2
    told = capsys.readouterr().err
    assert NOT_STARTED in told
    said = {"altered": "1 file altered (b.png)", "added": "1 file added (g.png)", "removed": "1 file removed (b.png)"}
    said |= {"caption": "1 caption altered (c.png)", "gone": f"data.path: {photos} is missing"}
    assert said[harm] in told
    assert "photos-rank8-seed1, photos-rank8-seed77: the data changed since it began" in told
    assert f"Restore it to go on, or train anew: python -m src.train {seeds(1, Seed.ENDLESS)}" in told
    assert "hydra.sweep.dir" not in told, "which holds a sweep already"
    assert (stopped / "journal.jsonl").read_bytes() == before
    assert len(told.splitlines()) == 2, "said once for both"


def test_jobs_on_other_data_go_on_and_the_exit_code_tells(
    command: Command, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in photos.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    folder = tmp_path / "sweep"
    with stopped_after(folder, finished=0):
        command(seeds(Seed.ENDLESS), f"data.path={photos},{other}", *DATA.split(), "-m")
    assert ends(folder)[-2:] == ["KILLED", "KILLED"]
    (folder / "let-end").touch()
    (other / "a.png").write_bytes(b"another")
    capsys.readouterr()
    assert resume.main([str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Left out: photos-")
    assert f"data.path ({other}): 1 file altered (a.png)" in captured.err
    assert began(folder)[1:] == [[0]]
    assert ends(folder)[-1] == "FINISHED"
    (other / "a.png").write_bytes(b"a" * 9)
    assert resume.main([str(folder)]) == 0, "restored: it goes on"
    assert began(folder)[2:] == [[1]]


def test_touched_and_renamed_files_are_no_change(stopped: Path, photos: Path) -> None:
    (photos / "a.png").touch()
    for kind in ("png", "txt"):
        (photos / f"b.{kind}").rename(photos / f"z.{kind}")
    assert resume.main([str(stopped)]) == 0


def test_dropout_that_was_drawn_otherwise_is_refused(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What began before streams had versions; a job without dropout goes on, whichever it began with."""
    for job in (stopped / "0", stopped / "1"):
        made = json.loads((job / "made_with.json").read_text())
        made["streams"] = None
        made["asked"] = made["config"] = _with_dropout(job) if job.name == "1" else made["asked"]
        (job / "made_with.json").write_text(json.dumps(made))
    capsys.readouterr()
    assert resume.main([str(stopped)]) == 2
    told = capsys.readouterr().err
    assert "photos-rank8-seed77: its LoRA dropout was drawn by version 1 of the random streams" in told
    assert "photos-rank8-seed1" not in told.replace("photos-rank8-seed77", "")


def _with_dropout(job: Path) -> str:
    """As if the job had been asked for so; the digest of its configuration."""
    file = job / ".hydra" / "config.yaml"
    config = OmegaConf.load(file)
    config.lora.dropout = 0.1
    OmegaConf.save(config, file)
    return config_digest(read_config(job))


def test_one_job_is_refused_as_well(command: Command, stopped: Path, photos: Path) -> None:
    (photos / "b.png").write_bytes(b"another")
    ran = command(f"resume={stopped}/1", sweep_dir=None)
    assert ran.code == 2
    assert f"resume: photos-rank8-seed77: the data changed since it began: data.path ({photos}): 1 file al" in ran.err
    assert began(stopped) == [[0], [1]]


@pytest.mark.parametrize("job", [0, 1], ids=["finished", "unfinished"])
def test_an_edited_configuration_is_refused(stopped: Path, job: int, capsys: pytest.CaptureFixture[str]) -> None:
    file = stopped / str(job) / ".hydra" / "config.yaml"
    config = OmegaConf.load(file)
    config.optimizer.lr = 0.125
    OmegaConf.save(config, file)
    capsys.readouterr()
    assert resume.main([str(stopped)]) == 2
    name = "photos-rank8-seed1" if job == 0 else "photos-rank8-seed77"
    assert (
        f"{name}: its stored configuration (.hydra/config.yaml) was changed since it began" in capsys.readouterr().err
    )


def test_what_only_says_where_to_log_may_be_edited(stopped: Path) -> None:
    file = stopped / "1" / ".hydra" / "config.yaml"
    config = OmegaConf.load(file)
    config.trainer.log_every = 3
    config.tracking.experiment = "another"
    OmegaConf.save(config, file)
    assert resume.main([str(stopped)]) == 0


def test_a_torn_adapter_is_made_again(stopped: Path) -> None:
    (file,) = (stopped / "0" / "adapter").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert resume.main([str(stopped)]) == 0
    assert file.read_bytes() == whole
    assert began(stopped)[2:] == [[0], [1]]


def test_failed_jobs_are_compared_only_when_they_are_tried_again(
    command: Command, words: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(seeds(Seed.DIVERGES), *words)
    (photos / "b.png").write_bytes(b"another")
    assert resume.main([str(tmp_path / "sweep")]) == 0
    assert "skipped, failed (python -m src.retry tries again): photos-rank8" in capsys.readouterr().out
    assert resume.main([str(tmp_path / "sweep")], failed=True) == 2
    assert "1 file altered (b.png)" in capsys.readouterr().err


def test_a_damaged_record_is_no_reason_to_lose_a_sweep(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker compares once more, with what its checkpoint says."""
    for job in (0, 1):
        (stopped / str(job) / "made_with.json").write_text("{")
    assert resume.main([str(stopped)]) == 0
    assert "skipped, finished with its files in place: photos-rank8-seed1" in capsys.readouterr().out


def test_a_sweep_that_never_got_its_jobs_says_how_to_start_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_sweep(tmp_path / "sweep", "20261127-101500-abc123")  # and killed before the jobs' folders were written
    assert resume.main([str(tmp_path / "sweep")]) == 2
    told = capsys.readouterr().err
    assert "nothing was trained; start it again: python -m src.train" in told
