"""Sweeps of a newer version, and folders that cannot be written: one clear error each, before anything starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_foundry.commands import resume, status, stop
from lora_foundry.config.errors import FORMAT
from tests.commands.ran import Command
from tests.launch.seeds import Seed, seeds
from tests.phrases import ALLOWED_UP_TO, IS_A_FILE, NOT_WRITABLE

NEWER = f"got format {FORMAT + 1}, {ALLOWED_UP_TO} {FORMAT}"


@pytest.fixture
def root(command: Command, tmp_path: Path) -> Path:
    """Two sweeps, ``d/old`` and ``d/new``."""
    for name in ("old", "new"):
        command(seeds(Seed.DIVERGES), sweep_dir=tmp_path / "multirun" / "d" / name)
    return tmp_path / "multirun"


def _make_newer(folder: Path, file: str) -> None:
    content = (folder / file).read_text()
    assert f'"format": {FORMAT}' in content, "it names its format"
    (folder / file).write_text(content.replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}', 1))


@pytest.mark.parametrize("file", ["sweep.json", "journal.jsonl"])
def test_a_sweep_of_a_newer_version_is_refused_with_both_numbers(
    command: Command, root: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    folder = root / "d" / "new"
    _make_newer(folder, file)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    for run in (resume.main, lambda words: resume.main(words, failed=True), status.main):
        assert run([str(folder)]) == 2
        assert f"{folder / file}: {NEWER}" in capsys.readouterr().err
    ran = command(f"resume={folder}/0", sweep_dir=None)
    assert ran.code == 2
    assert f"{folder / file}: {NEWER}" in ran.err
    assert stop.main([str(folder / "0")]) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_status_shows_the_others_and_says_what_it_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _make_newer(root / "d" / "new", "journal.jsonl")
    capsys.readouterr()
    assert status.main(["--root", str(root), "--json"]) == 0
    captured = capsys.readouterr()
    assert [job["state"] for job in json.loads(captured.out)] == ["FAILED"]
    assert captured.err.startswith(f"left out: {root}/d/new/journal.jsonl: {NEWER}")


def test_what_names_no_format_is_read_as_before(root: Path) -> None:
    folder = root / "d" / "old"
    record = json.loads((folder / "sweep.json").read_text())
    record.pop("format")
    for job in record["jobs"]:
        job.pop("config")
    (folder / "sweep.json").write_text(json.dumps(record))
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (folder / "journal.jsonl").write_text("".join(lines[1:]))
    assert resume.main([str(folder)]) == 0


@pytest.fixture(params=["below a file", "read-only", "where nobody can"])
def locked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that even root cannot write to, and why."""
    folder = tmp_path / "mount"
    folder.mkdir()
    if request.param == "below a file":
        (tmp_path / "file").touch()
        yield tmp_path / "file" / "x", IS_A_FILE
    elif request.param == "read-only" and _mount(folder):
        yield folder / "x", "Read-only file system"
        subprocess.run([str(shutil.which("umount")), str(folder)], check=True)
    elif request.param == "read-only" and os.getuid():
        folder.chmod(0o555)
        yield folder / "x", "Permission denied"
        folder.chmod(0o755)
    else:
        yield Path("/proc/sys/x"), ""


def _mount(folder: Path) -> bool:
    """A read-only file system on ``folder``, where this process may."""
    program = shutil.which("mount")
    words = ["-t", "tmpfs", "-o", "ro", "none", str(folder)]
    return program is not None and subprocess.run([program, *words], capture_output=True, check=False).returncode == 0


def test_a_sweeps_folder_that_cannot_be_written(command: Command, locked: tuple[Path, str]) -> None:
    folder, why = locked
    ran = command("seed=0,1", "-m", sweep_dir=folder)
    assert ran.code == 2
    assert f"hydra.sweep.dir: {folder} {NOT_WRITABLE} (" in ran.err
    assert why in ran.err
    assert "give a folder that can" in ran.err
    assert len(ran.err.splitlines()) == 2, "Nothing was started, and why"


def test_a_store_that_cannot_be_written(command: Command, locked: tuple[Path, str], tmp_path: Path) -> None:
    folder, why = locked
    ran = command("seed=0", "tracking=mlflow", f"tracking.root={folder}")
    assert ran.code == 2
    assert f"tracking.root: {folder} {NOT_WRITABLE} (" in ran.err
    assert why in ran.err
    named = command("seed=0", "tracking=mlflow", f"tracking.uri=sqlite:///{folder}/my.db")
    assert named.code == 2
    assert f"tracking.uri: {folder} {NOT_WRITABLE} (" in named.err
    assert not (tmp_path / "sweep").exists()


def test_a_cache_that_cannot_be_made_and_one_that_is_there(
    command: Command, locked: tuple[Path, str], tmp_path: Path
) -> None:
    folder, why = locked
    ran = command("seed=0,1", "-m", f"data.cache_dir={folder}")
    assert ran.code == 2
    assert f"data.cache_dir: {folder} {NOT_WRITABLE} (" in ran.err
    assert why in ran.err
    assert not (tmp_path / "sweep").exists()
    assert command("seed=0", "data.cache_dir=/proc/sys").code == 0, "it may hold all that is needed"


def test_both_are_said_at_once_and_neither_matters_where_it_is_not_used(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bad = tmp_path / "file" / "x"
    both = command("seed=0", "tracking=mlflow", f"tracking.root={bad}", sweep_dir=bad)
    assert both.code == 2
    assert len(both.err.splitlines()) == 3
    assert command("seed=0", "tracking=none", f"tracking.root={bad}").code == 0
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nowhere" / "at-all")
    assert "is a link to nowhere" in command("seed=0", sweep_dir=dangling).err


def test_the_default_folder_below_a_file(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multirun").touch()
    ran = command("seed=0", sweep_dir=None)
    assert ran.code == 2
    assert "multirun is a file" in ran.err


def test_a_sweep_that_became_unwritable_is_not_resumed(
    command: Command, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "d" / "old"
    (folder / "journal.jsonl").unlink()
    (folder / "journal.jsonl").symlink_to("/proc/sys/no-journal")  # root may write anywhere else
    capsys.readouterr()
    assert resume.main([str(folder)], failed=True) == 2
    assert f"{folder} {NOT_WRITABLE} (" in capsys.readouterr().err
    ran = command(f"resume={folder}/0", sweep_dir=None)
    assert ran.code == 2
