"""One notion of where sweeps lie, for status, resume, stop and ``skip_finished``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.commands import resume, status, stop
from lora_foundry.launch.records.finding import find
from lora_foundry.launch.records.record import sweep_dirs
from tests.commands.ran import Command
from tests.launch.seeds import Seed, seeds
from tests.phrases import NO_JSON, NOT_RUNNING, NOTHING_TO_TRAIN


def _record(folder: Path, created: float) -> Path:
    folder.mkdir(parents=True)
    record = {"format": 1, "id": f"20261127-101500-{folder.name}", "command": "", "created": created, "jobs": []}
    (folder / "sweep.json").write_text(json.dumps(record))
    return folder


def test_at_any_depth_the_newest_first(tmp_path: Path) -> None:
    names = ("ranks", "2026-11-27/10-15-00-abc", "by/me/for/anna", ".")
    made = [_record(tmp_path / name, created) if name != "." else tmp_path for created, name in enumerate(names)]
    (tmp_path / "sweep.json").write_text((made[0] / "sweep.json").read_text().replace('"created": 0', '"created": 9'))
    assert sweep_dirs(tmp_path) == [tmp_path, made[2], made[1], made[0]], "a sweep in the root hides no other"


def test_a_sweeps_own_folders_links_in_circles_and_hidden_ones_are_not_looked_into(tmp_path: Path) -> None:
    sweep = _record(tmp_path / "a", 1.0)
    for inside in ("spool", "packs", "data", "0/.hydra", ".hidden"):
        _record(sweep / inside / "x", 2.0)
    (sweep / "0" / ".hydra").mkdir(exist_ok=True)
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(sweep)
    assert len(sweep_dirs(tmp_path)) == 1


def test_a_newest_sweep_that_cannot_be_read_is_named_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _record(tmp_path / "old", time.time() - 1000.0)
    newest = _record(tmp_path / "new", 0.0)
    (newest / "sweep.json").write_text("{")
    assert find(None, tmp_path) == (newest, None)
    assert resume.main(["--root", str(tmp_path)]) == 2
    assert f"{newest / 'sweep.json'} {NO_JSON}" in capsys.readouterr().err


def test_a_thousand_sweeps_are_found_in_a_moment(tmp_path: Path) -> None:
    for number in range(1000):
        folder = _record(tmp_path / f"d{number % 30}" / str(number), float(number))
        for name in ("spool", "packs", "0/.hydra", "1/.hydra"):
            (folder / name).mkdir(parents=True)
    start = time.process_time()
    assert sweep_dirs(tmp_path)[0].name == "999"
    assert time.process_time() - start < 2.0, "0.2 s on two cores"


def test_a_folder_one_level_deep_is_found_by_every_command(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(__file__).parents[2]))
    command("seed=0", "-m", sweep_dir=None)
    command(seeds(1, Seed.DIVERGES), "-m", "hydra.sweep.dir=multirun/ranks", sweep_dir=None)
    assert status.main([]) == 0
    assert capsys.readouterr().out.startswith("multirun/ranks ")
    assert resume.main([]) == 0
    assert "Nothing is left to do in multirun/ranks" in capsys.readouterr().out
    assert stop.main(["ranks"]) == 2
    assert capsys.readouterr().err == f"multirun/ranks {NOT_RUNNING}\n"
    again = command("seed=1", "hydra.launcher.skip_finished=true", sweep_dir=None)
    assert NOTHING_TO_TRAIN in again.out
    assert len(sweep_dirs(tmp_path / "multirun")) == 2, "no new one"


def test_the_folder_and_the_id_of_a_sweep_carry_one_time(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(__file__).parents[2]))
    command("seed=0", sweep_dir=None)
    (folder,) = sweep_dirs(tmp_path / "multirun")
    date, name = folder.relative_to(tmp_path / "multirun").parts
    clock, token = name.rsplit("-", 1)
    made = json.loads((folder / "sweep.json").read_text())["id"]
    assert made == f"{date.replace('-', '')}-{clock.replace('-', '')}-{token}"


@pytest.mark.parametrize("command", [status.main, resume.main, lambda words: stop.main(["anna", *words])])
def test_a_root_that_is_no_folder_is_refused(
    command: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--root", str(tmp_path / "mutlirun")])
    assert ended.value.code == 2
    assert f"--root: got '{tmp_path / 'mutlirun'}', which is no folder" in capsys.readouterr().err
