"""Every command that is printed, pasted into bash as it stands, means what it says, whatever the folders are called."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from sqlalchemy.engine import make_url

from lora_foundry.commands import resume, status
from lora_foundry.config.quoting import override
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.launch.points.texts import as_texts
from lora_foundry.launch.records.finding import find
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.screen.table import ui_command
from tests.commands.ran import Command, Ran
from tests.commands.stopping import stopped_after, sweeps_in
from tests.launch.jobs import job
from tests.launch.seeds import Seed, seeds
from tests.root import PROJECT_ROOT

ROOT = "my loras (é)'s"
PHOTOS = "a=1, ключ's"
_PRINTED = re.compile(r"python -m src\.\w+ .*?(?=, or this command|\)$|$)", re.MULTILINE)


def pasted(line: str) -> list[str]:
    """What a program would be given, the program's name aside."""
    print_words = 'python() { printf \'%s\\0\' "$@"; }; make() { python "$@"; }; mlflow() { python "$@"; }'
    command = ["bash", "--norc", "-c", f"{print_words}\n{line}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not ran.stderr
    return ran.stdout.split("\0")[:-1]


def printed(text: str) -> list[list[str]]:
    """The words behind ``python -m`` of every command in ``text`` that names something."""
    commands = [pasted(command)[1:] for command in _PRINTED.findall(text)]
    return [words for words in commands if "/" in "".join(words)]


@pytest.fixture
def train(command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A sweep of jobs on photos whose folder's name is as odd as the sweep's."""
    monkeypatch.chdir(tmp_path)
    data = photos.rename(tmp_path / PHOTOS)

    def run(*words: str, sweep_dir: Path | None = None) -> Ran:
        del sweep_dir
        where = f"hydra.sweep.dir={ROOT}/day/${{sweep_id:}}"
        path = override("data.path", data)
        return command(*words, "data=folder", "data.name=x", path, "data.resolution=64", where, "-m", sweep_dir=None)

    return run


def test_what_a_stopped_sweep_prints_leads_back_to_it(
    train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / ROOT
    with stopped_after(root, finished=1):
        ran = train(seeds(1, Seed.ENDLESS), "hydra.launcher.pack_size=1")
    (folder,) = sweeps_in(root)
    told = printed(ran.out + ran.err)
    assert told, "how to go on is said"
    status.main([str(folder)])
    told += printed(capsys.readouterr().out)
    with stopped_after(root, finished=1):
        told += printed(train(seeds(1, Seed.ENDLESS), "hydra.launcher.pack_size=1").out)
    assert len(told) >= 3
    for program, *words in told:
        assert program in ("src.resume", "src.retry", "src.status", "src.train")
        (what,) = (word.removeprefix("resume=") for word in words)
        assert find(as_plain(what), root)[0] in sweeps_in(root)


def test_the_command_to_train_anew_is_the_one_that_was_typed(
    train: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("seed=1,2").code == 0
    (folder,) = sweeps_in(tmp_path / ROOT)
    (tmp_path / PHOTOS / "b.png").write_bytes(b"another")
    ran = train("seed=1,2", "hydra.launcher.skip_finished=true")
    assert ran.code == 2
    for text in (ran.err, read_sweep(folder).command):
        (words,) = printed(text)
        given = OverridesParser.create().parse_overrides(as_texts([word for word in words if "=" in word]))
        values = {one.key_or_group: one.value() for one in given}
        assert values["data.path"] == str(tmp_path / PHOTOS)
        assert values["data"] == "folder"
    capsys.readouterr()
    assert resume.main([str(folder)]) in (0, 2)
    for program, *words in printed("".join(capsys.readouterr())):
        assert program != "src.status" or find(words[0], tmp_path)[0] == folder


@pytest.mark.parametrize("name", [ROOT, "50% #1?", "$HOME `x` !y"])
def test_the_command_that_opens_mlflow_names_the_very_database(name: str, tmp_path: Path) -> None:
    words = pasted(ui_command(tracking(root=str(tmp_path / name))))
    uri = words[words.index("--backend-store-uri") + 1]
    assert make_url(uri).database == str(tmp_path / name / "mlflow.db")


def tracking(**values: str) -> TrackingConfig:
    return job(**{f"tracking__{key}": value for key, value in values.items()}).tracking


def as_plain(value: str) -> str:
    """A value of ``resume=`` as the configuration gets it."""
    (read,) = OverridesParser.create().parse_overrides(as_texts([f"resume={value}"]))
    return str(read.value())


def test_make_ui_is_said_for_the_project_s_own_folder_from_wherever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tracking(root=str(PROJECT_ROOT / "mlruns"))
    monkeypatch.chdir(PROJECT_ROOT)
    assert ui_command(own) == "make ui"
    monkeypatch.chdir(tmp_path)
    assert pasted(ui_command(own)) == ["-C", str(PROJECT_ROOT), "ui"]


@pytest.mark.parametrize("name", [ROOT, "50% #1?", "$HOME `x` !y"])
def test_make_ui_opens_the_database_of_a_project_in_any_folder(name: str, tmp_path: Path) -> None:
    """The Makefile's own line, with a stand-in for MLflow that says what it was given."""
    project = tmp_path / name
    (project / ".venv" / "bin").mkdir(parents=True)
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(PROJECT_ROOT / file, project / file)
    shutil.copytree(PROJECT_ROOT / "src", project / "src")
    for program, line in (("python", f'exec {sys.executable} "$@"'), ("mlflow", "printf '%s\\n' \"$@\"")):
        (project / ".venv" / "bin" / program).write_text(f"#!/bin/sh\n{line}\n")
        (project / ".venv" / "bin" / program).chmod(0o755)
    (project / ".venv" / ".ready").touch()
    command = ["make", "-C", str(project), "ui"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    words = ran.stdout.splitlines()
    database = make_url(words[words.index("--backend-store-uri") + 1]).database
    assert database == str(project / "mlruns" / "mlflow.db")
