"""The wheel in an environment of its own, from a folder that is no checkout; and which copy of the code runs where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections import Counter
from importlib.metadata import distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.root import PROJECT_ROOT
from tests.surroundings import with_src

_TWO_JOBS = ("lora.rank=2,4", "-m", "trainer.max_steps=2", "sample=none", "tracking=none", "data.val_fraction=0")
_HERE = Path(sysconfig.get_path("purelib"))
_RECORDER = """\
import atexit, json, os, sys

def note():
    names = {id(module): name for name, module in list(sys.modules.items())}  # multiprocessing calls one by two
    found = {name: getattr(sys.modules[name], "__file__", None) for name in names.values()}
    with open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.json"), "w") as out:
        json.dump(found, out)

atexit.register(note)
"""


def _recording(folder: Path, *, also: Path | None = None) -> dict[str, str]:
    """An environment in which each Python process tells at its end which modules it has from where."""
    (folder / "sitecustomize.py").write_text(_RECORDER)
    path = os.pathsep.join([str(folder), *([str(also)] if also else [])])
    return {**os.environ, "PYTHONPATH": path}


def _recorded(folder: Path) -> list[dict[str, str]]:
    """Modules with their files, of each process that ran this project: launcher and worker."""
    told = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [modules for modules in told if any(name.startswith("lora_foundry") for name in modules)]


def _twice(modules: dict[str, str]) -> list[str]:
    """Files of this project that a process has under more than one name."""
    ours = [file for name, file in modules.items() if file and ("lora_foundry" in name or "/lora_foundry/" in file)]
    return [file for file, times in Counter(ours).items() if times > 1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with what ``pip install .`` brings, and nothing else.

    That the versions can be installed together, ``make setup`` has shown, which made the environment of the tests: the
    files come from there.
    """
    place = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    for entry in _entries_of(_needed("lora-foundry")):
        (packages / entry).symlink_to(_HERE / entry)
    line = [sys.executable, "-m", "pip", "--python", place / "bin" / "python"]
    subprocess.run([*line, "install", "-qq", "--no-deps", PROJECT_ROOT], check=True, cwd=place, capture_output=True)
    missing = subprocess.run([*line, "check"], capture_output=True, text=True, check=False)
    assert missing.returncode == 0, missing.stdout
    return place / "bin"


def _needed(name: str, extras: frozenset[str] = frozenset(), found: set[str] | None = None) -> set[str]:
    """Distributions that an installation of ``name`` brings, by what each says that it requires."""
    found = set() if found is None else found
    for line in requires(name) or []:
        required = Requirement(line)
        wanted = [{"extra": extra} for extra in ("", *extras)]
        if required.marker is not None and not any(map(required.marker.evaluate, wanted)):
            continue
        key = canonicalize_name(required.name)
        if key not in found or required.extras:
            found.add(key)
            _needed(key, frozenset(required.extras), found)
    return found


def _entries_of(wanted: set[str]) -> set[str]:
    """Of the folder of packages: what lies there for ``wanted``, and for no other distribution as well."""
    owners: dict[str, set[str]] = {}
    for one in distributions():
        name = canonicalize_name(one.name)
        for line in (one.read_text("RECORD") or "").splitlines():
            owners.setdefault(line.partition("/")[0].partition(",")[0], set()).add(name)
    mine = {entry: theirs for entry, theirs in owners.items() if theirs & wanted and (_HERE / entry).exists()}
    mine = {entry: theirs for entry, theirs in mine.items() if entry not in ("..", "__pycache__")}
    assert {entry: theirs - wanted for entry, theirs in mine.items() if not theirs <= wanted} == {}
    return set(mine)


def test_an_installed_program_trains_in_a_folder_that_has_a_src_of_its_own(installed: Path, tmp_path: Path) -> None:
    theirs, records = with_src(tmp_path, package=True), tmp_path / "records"
    records.mkdir()
    line = [installed / "lora-foundry", "train", *_TWO_JOBS]
    ran = subprocess.run(line, cwd=theirs, env=_recording(records), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(list(theirs.glob("multirun/*/*/*/adapter/*.safetensors"))) == 2
    processes = _recorded(records)
    assert len(processes) >= 2, "the launcher and its worker"
    for modules in processes:
        assert _twice(modules) == []
        assert "src" not in modules
        files = [file for name, file in modules.items() if name.startswith(("lora_foundry", "hydra_plugins")) and file]
        assert {Path(file).is_relative_to(installed.parent) for file in files} == {True}, "nothing of the checkout"
    shown = subprocess.run(
        [installed / "lora-foundry", "status"], cwd=theirs, capture_output=True, text=True, check=True
    ).stdout
    assert "2 finished" in shown
    assert "lora-foundry status --all" in shown, "what is shown can be typed here"


def test_an_installed_program_says_what_there_is_and_completes_it(installed: Path, tmp_path: Path) -> None:
    program = installed / "lora-foundry"

    def said(*words: str, **environment: str) -> str:
        env = {**os.environ, **environment}
        return subprocess.run(
            [program, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        ).stdout

    assert "lora-foundry retry" in said()
    assert "lora-foundry train lora.rank=4,8,16 -m" in said("train", "--help")
    assert said("resume", "--help").startswith("usage: lora-foundry resume")
    assert said("train", "-sc", "query=bash", COMP_LINE="lora-foundry tra").split() == ["track", "train"]
    assert said("train", "-sc", "query=bash", COMP_LINE="lora-foundry train lora.ran").split() == ["lora.rank="]
    assert "src" not in said("train", "--cfg", "hydra", "-p", "hydra.runtime.config_sources").split("/")
    wrong = subprocess.run([program, "trian"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.endswith("did you mean train?\n")


def test_a_checkout_runs_one_copy_of_its_own_code_whatever_is_installed(tmp_path: Path) -> None:
    """In the launcher and in the worker, though another ``lora_foundry`` comes first on the path."""
    other, records = tmp_path / "other", tmp_path / "records"
    (other / "lora_foundry").mkdir(parents=True)
    (other / "lora_foundry" / "__init__.py").write_text("raise SystemExit('not ours')\n")
    records.mkdir()
    line = [sys.executable, "-m", "src.train", *_TWO_JOBS, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    env = _recording(records, also=other)
    ran = subprocess.run(line, cwd=PROJECT_ROOT, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    processes = _recorded(records)
    assert len(processes) >= 2
    for modules in processes:
        assert _twice(modules) == []
        files = [file for name, file in modules.items() if name.startswith("lora_foundry.") and file]
        assert {Path(file).is_relative_to(PROJECT_ROOT / "src") for file in files} == {True}


@pytest.mark.parametrize("package", [True, False])
def test_somebodys_own_src_is_not_shadowed(package: bool, tmp_path: Path) -> None:
    theirs = with_src(tmp_path, package=package)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in ("train", "status"):
        line = [sys.executable, "-m", f"src.{command}"]
        ran = subprocess.run(line, cwd=theirs, env=env, capture_output=True, text=True, check=False)
        assert "not ours" in ran.stderr or "No module named" in ran.stderr
        assert ran.returncode == 1
