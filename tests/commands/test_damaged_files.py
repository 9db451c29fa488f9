"""Every file that a sweep leaves and a later command reads, damaged in every way: no traceback, others go on."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from lora_foundry.commands import resume, status, stop
from lora_foundry.launch.records.journal import Journal
from lora_foundry.wire.journal import JobLine
from tests.commands.ran import Command
from tests.phrases import NO_JSON, NOT_RUNNING

QUICK = f"hydra.launcher.worker_command=[{sys.executable},-S,-E,tests/launch/quick_worker.py]"
POINTS = ("seed=0,1,2", "-m", QUICK)
DONE, BROKEN, LEFT = 0, 1, 2  # jobs: one that finished, one whose files are damaged, one that shall go on


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def _folder(path: Path) -> None:
    """What no user, root included, can read as a file."""
    path.unlink()
    path.mkdir()


def _of_other_shape(path: Path) -> None:
    other = {
        ".yaml": "- 1\n- {a: [b]}\n",
        ".json": "[1, null]",
        ".jsonl": '[]\n{"event": "job"}\n{"kind": "state"}\n5\n',
    }
    path.write_text(other.get(path.suffix, "{}"))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),  # what a power cut leaves
    "cut": _cut,
    "binary": lambda path: path.write_bytes(b"\x80\xff\xfe\x00\x1b" * 99),
    "slip": lambda path: path.write_bytes(path.read_bytes() + b"\n]{: [\n"),
    "other shape": _of_other_shape,
    "a folder": _folder,
}


def _one_piece(torn: str) -> tuple[str, ...]:
    """Of a file that is read in one piece: empty, zeros, cut and slip are the same to its reader."""
    return "missing", "a folder", "binary", "other shape", torn


FILES: dict[str, tuple[str, ...]] = {
    "sweep.json": tuple(DAMAGES),
    "journal.jsonl": tuple(DAMAGES),
    "spool/pack-0.jsonl": tuple(DAMAGES),
    "1/.hydra/config.yaml": tuple(DAMAGES),
    "results.json": _one_piece("empty"),
    "tracking.json": _one_piece("zeros"),
    "data/inventory.json": _one_piece("cut"),
    "1/made_with.json": _one_piece("slip"),
    "1/memory.json": _one_piece("zeros"),
    "1/.hydra/hydra.yaml": _one_piece("cut"),
    "1/.hydra/overrides.yaml": _one_piece("slip"),
    "1/checkpoints/step-00000003.safetensors": ("missing", "a folder", "empty"),  # its content is the worker's to read
}
"""With the ways in which each is damaged: every one where they lead to different ends."""
CASES = [(file, damage) for file, damages in FILES.items() for damage in damages]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "multirun" / "sweep"


@pytest.fixture
def sweep(kept: Path, tmp_path: Path, command: Command) -> Path:
    """Three jobs: the first finished, the others were interrupted; made once, each test has a copy."""
    if not kept.exists():
        command(*POINTS, sweep_dir=kept)
        _interrupt(kept)
    return Path(shutil.copytree(kept, tmp_path / "multirun" / "sweep"))


def _interrupt(folder: Path) -> None:
    with Journal(folder) as journal:
        for number in (BROKEN, LEFT):
            journal.write(JobLine(job=number, state="KILLED", error="interrupted", summary=None))
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "inventory.json").write_text(json.dumps({"format": 1, "sets": {}}))
    (folder / "tracking.json").write_text(json.dumps({"version": 1, "sweep": "x"}))
    for number in range(3):
        (folder / str(number) / "checkpoints").mkdir()
        (folder / str(number) / "checkpoints" / "step-00000003.safetensors").write_bytes(b"x" * 9)
        made = {
            "asked": "a",
            "config": "a",
            "base": "b",
            "data": "d",
            "inventory": "../data/inventory.json",
            "code": "c",
        }
        digest = json.loads((folder / "sweep.json").read_text())["jobs"][number]["config"]
        made |= {"format": 1, "asked": digest, "config": digest, "started": 9e9, "ended": None}
        (folder / str(number) / "made_with.json").write_text(json.dumps(made))
        (folder / str(number) / "memory.json").write_text("{}")


def _states(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[int, str]:
    capsys.readouterr()
    assert status.main([str(folder), "--json"]) == 0
    return {job["job"]: job["state"] for job in json.loads(capsys.readouterr().out)}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "damage"), CASES)
def test_no_command_ends_in_a_traceback_and_the_other_jobs_go_on(
    file: str, damage: str, sweep: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(sweep, sweep.with_name("other")))
    DAMAGES[damage](sweep / file)
    root = ["--root", str(sweep.parent)]
    whole = file not in ("sweep.json", "journal.jsonl")
    assert status.main(root) == 0
    told = capsys.readouterr()
    assert str(other) in told.out, "the others are shown"
    if file == "sweep.json":
        assert told.err.startswith(f"left out: {sweep / file}")
        assert told.err.count("\n") == 1
    assert stop.main([str(sweep)]) == 2, "it does not run"
    assert capsys.readouterr().err == f"{sweep} {NOT_RUNNING}\n"

    again = Path(shutil.copytree(sweep, sweep.with_name("again")))
    code = resume.main([str(sweep)])
    said = capsys.readouterr()
    if whole:
        lost = file == "1/.hydra/config.yaml"
        assert code == (2 if lost else 0)
        assert _states(sweep, capsys) == {DONE: "FINISHED", BROKEN: "KILLED" if lost else "FINISHED", LEFT: "FINISHED"}
        assert not lost or ("Left out: duotone-rank8-seed1: " in said.err and "python -m src.train seed=1" in said.err)
    assert code in (0, 2)
    assert resume.main([str(sweep)], failed=True) in (0, 2), "as src.retry"

    ran = command(*POINTS, "hydra.launcher.skip_finished=true", sweep_dir=again)
    assert ran.code == (2 if file in ("sweep.json", "1/.hydra/config.yaml") else 0) or not whole
    for text in (told.err, said.err, ran.err, capsys.readouterr().err):
        assert "Traceback" not in text


def test_a_deleted_job_is_left_out_with_what_trains_it_anew(
    sweep: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(sweep / "1")
    again = Path(shutil.copytree(sweep, sweep.with_name("again")))
    capsys.readouterr()
    assert resume.main([str(sweep)]) == 2
    gone = f"duotone-rank8-seed1: its folder {sweep / '1'} is gone"
    told = capsys.readouterr()
    assert gone in told.err
    assert "Continue:" not in told.out, "there is nothing that could"
    assert _states(sweep, capsys)[LEFT] == "FINISHED"
    assert resume.main([str(sweep)]) == 2, "nothing else is left"
    assert f"Nothing was started:\n  - {gone}" in capsys.readouterr().err
    ran = command(*POINTS, "hydra.launcher.skip_finished=true", sweep_dir=again)
    assert ran.code == 2
    assert f"Left out: duotone-rank8-seed1: its folder {again / '1'} is gone" in ran.err
    assert _states(again, capsys)[LEFT] == "FINISHED"
    assert resume.main([str(sweep / "1")]) == 2, "asked for by its folder"
    assert gone in capsys.readouterr().err


def test_nothing_is_called_no_sweep_where_one_is_left_out(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "sweep.json").write_text("{")
    capsys.readouterr()
    assert status.main(["--root", str(sweep.parent)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"left out: {sweep / 'sweep.json'} {NO_JSON}")


def _altered(value: object) -> Iterator[object]:
    """``value`` with each single part of it replaced by something of another kind."""
    for odd in (None, [], {}, "x", -1.5):
        yield odd
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        for odd in _altered(part):
            made = value.copy()  # type: ignore[attr-defined]
            made[key] = odd
            yield made


@pytest.mark.parametrize("file", ["sweep.json", "journal.jsonl", "spool/pack-0.jsonl", "1/made_with.json"])
def test_any_value_may_be_of_another_kind(
    file: str, sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of valid JSON in which one value is not what was written: status and resume's own look survive it.

    Of lines of one form the first is altered. The jobs' configurations stay as they are, and are read once.
    """
    from lora_foundry.config.errors import SweepError
    from lora_foundry.launch.records import stored_jobs
    from lora_foundry.launch.records.resume import find_unfinished

    monkeypatch.setattr(stored_jobs, "_read_yaml", cache(stored_jobs._read_yaml))
    path = sweep / file
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    forms = {_form(json.loads(line)): place for place, line in reversed(list(enumerate(lines)))}
    for place in forms.values():
        for odd in _altered(json.loads(lines[place])):
            path.write_text("\n".join([*lines[:place], json.dumps(odd), *lines[place + 1 :], ""]))
            assert status.main(["--root", str(sweep.parent), "--all"]) == 0
            with contextlib.suppress(SweepError):  # which is one line
                find_unfinished(sweep, failed=True)
        capsys.readouterr()


def _form(value: object) -> str:
    """What keys there are and of which kind their values; equal of lines that say the same of other jobs."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_form(one)}" for key, one in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted({_form(one) for one in value})) + "]"
    return value if isinstance(value, str) and value.isupper() else type(value).__name__
