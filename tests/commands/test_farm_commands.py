"""``src.status``, ``src.stop``, ``src.resume`` and ``src.retry``, with a worker that trains nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lora_foundry.commands import resume, status, stop
from lora_foundry.launch.records.journal import is_held, read_journal
from lora_foundry.launch.records.ledger import sweep_at
from lora_foundry.wire.journal import BeganLine, JobLine
from tests import nursery
from tests.commands.ran import FAKE_WORKER, Command
from tests.launch.seeds import Seed, seeds
from tests.phrases import BUSY, NOT_RUNNING, NOTHING_TO_DO
from tests.root import PROJECT_ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "multirun"


def _trains(folder: Path) -> bool:
    return any(isinstance(line, JobLine) and line.state == "RUNNING" for line in read_journal(folder))


def _sweep(command: Command, root: Path, *words: str, name: str = "10-00-00-a1b2c3") -> Path:
    folder = root / "2026-11-25" / name
    command(*words, sweep_dir=folder)
    return folder


def _states(folder: Path) -> list[str]:
    sweep = sweep_at(folder)
    return [sweep.word(job) for job in sweep.jobs]


def _killed_launcher(folder: Path, *words: str) -> None:
    """A sweep whose launcher was killed while its jobs ran, and whose worker has gone after it."""
    line = [sys.executable, "-m", "src.train", *words, FAKE_WORKER, f"hydra.sweep.dir={folder}", "tracking=none", "-m"]
    launcher = nursery.Popen(line, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(
        getattr(line, "state", None) == "RUNNING" for line in read_journal(folder)
    ):
        time.sleep(0.05)
    os.kill(launcher.pid, signal.SIGSTOP)  # it journals no more, its worker goes on
    while time.monotonic() < deadline and "FINISHED" not in _states(folder):
        time.sleep(0.05)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    while time.monotonic() < deadline and is_held(folder):
        time.sleep(0.05)


def _let_end(job_dir: Path) -> None:
    """The fake worker reads how to behave from the seed."""
    file = job_dir / ".hydra" / "config.yaml"
    config = OmegaConf.load(file)
    config.seed = 1
    OmegaConf.save(config, file)


def test_status_shows_every_sweep_and_job(command: Command, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _sweep(command, root, seeds(0, Seed.DIVERGES), "-m")
    capsys.readouterr()
    assert status.main(["--root", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "1 failed, 1 finished" in shown
    assert "duotone-rank8-seed13: the loss is not finite at step 2" in shown
    assert "0.2800" in shown


def test_status_for_machines(command: Command, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _sweep(command, root, seeds(0, Seed.DIVERGES), "-m")
    capsys.readouterr()
    assert status.main([str(folder), "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)
    assert [(job["name"], job["state"], job["val_loss"]) for job in jobs] == [
        ("duotone-rank8-seed0", "FINISHED", 0.28),
        ("duotone-rank8-seed13", "FAILED", None),
    ]
    assert jobs[0]["device"] == "cpu"
    assert jobs[0]["started"] <= jobs[0]["ended"]
    assert status.main([str(folder), "--csv"]) == 0
    assert [row["job"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == ["0", "1"]


def test_status_without_any_sweep(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root.mkdir()
    assert status.main(["--root", str(root)]) == 0
    assert "No sweep yet" in capsys.readouterr().out
    assert status.main(["nothing", "--root", str(root)]) == 2
    assert "got 'nothing'" in capsys.readouterr().err


def test_resume_goes_on_with_what_a_killed_launcher_left(root: Path) -> None:
    folder = root / "2026-11-25" / "10-00-00-a1b2c3"
    _killed_launcher(folder, seeds(0, Seed.ENDLESS), "hydra.launcher.backoff_s=0.5")
    assert _states(folder) == ["FINISHED", "KILLED"], "what the worker told when nobody journalled it"
    _let_end(folder / "1")
    finished_at = (folder / "0" / "adapter" / "duotone-rank8-seed0.safetensors").stat().st_mtime_ns
    assert resume.main(["--root", str(root)]) == 0
    assert _states(folder) == ["FINISHED", "FINISHED"]
    last = [line for line in read_journal(folder) if isinstance(line, BeganLine)][-1]
    assert last.jobs == (1,), "what finished is not trained again"
    assert (folder / "0" / "adapter" / "duotone-rank8-seed0.safetensors").stat().st_mtime_ns == finished_at
    assert resume.main(["--root", str(root)]) == 0, "once more, with nothing to do"


def test_resume_says_what_it_skips_and_retry_tries_failed_jobs(
    command: Command, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _sweep(command, root, seeds(0, Seed.DIVERGES), "-m")
    assert resume.main([str(folder)]) == 0
    assert NOTHING_TO_DO in capsys.readouterr().out
    _let_end(folder / "1")
    assert resume.main([str(folder)], failed=True) == 0
    shown = capsys.readouterr().out
    assert "duotone-rank8-seed13 (FAILED) goes on from its last checkpoint" in shown
    assert "skipped, finished with its files in place: duotone-rank8-seed0" in shown
    assert _states(folder) == ["FINISHED", "FINISHED"]


def test_a_finished_job_whose_file_is_gone_is_not_skipped(command: Command, root: Path) -> None:
    folder = _sweep(command, root, "seed=0,1", "-m")
    shutil.rmtree(folder / "1" / "adapter")
    assert resume.main(["a1b2c3", "--root", str(root)]) == 2, "the id ends otherwise"
    assert resume.main([str(folder)]) == 0
    assert list((folder / "1" / "adapter").iterdir())


def test_two_resumes_at_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "2026-11-25" / "10-00-00-a1b2c3"
    _killed_launcher(folder, seeds(0, Seed.ENDLESS))
    line = [sys.executable, "-m", "src.resume", str(folder)]
    first = nursery.Popen(line, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and _states(folder)[1] != "RUNNING":
            time.sleep(0.05)
        capsys.readouterr()
        assert resume.main([str(folder)]) == 2
        assert BUSY in capsys.readouterr().err
        assert stop.main([str(folder)]) == 0
        assert first.wait(30) == 130
    finally:
        first.kill()
        first.wait()


def test_stop_ends_a_job_and_then_the_sweep(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "2026-11-25" / "10-00-00-a1b2c3"
    line = [
        sys.executable,
        "-m",
        "src.train",
        seeds(Seed.ENDLESS, Seed.DEAF),
        FAKE_WORKER,
        f"hydra.sweep.dir={folder}",
        "tracking=none",
        "-m",
    ]
    launcher = nursery.Popen(line, cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(
            getattr(one, "state", None) == "RUNNING" for one in read_journal(folder)
        ):
            time.sleep(0.05)
        assert stop.main(["duotone-rank8-seed77", "--root", str(root)]) == 0
        assert _states(folder) == ["KILLED", "RUNNING"]
        again = f"python -m src.resume duotone-rank8-seed77 --root {root}"
        assert again in capsys.readouterr().out, "the printed command finds the job where it was found"
        assert stop.main([str(folder / "0")]) == 2
        assert "has ended already" in capsys.readouterr().err
        assert stop.main([str(folder), "--wait", "0.5"]) == 1, "one of them does not listen"
    finally:
        for number in (signal.SIGINT, signal.SIGINT):
            launcher.send_signal(number)
            time.sleep(0.5)
        assert launcher.wait(30) == 130


def test_stop_of_what_does_not_run(command: Command, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _sweep(command, root, "seed=0")
    assert stop.main([str(folder)]) == 2
    assert NOT_RUNNING in capsys.readouterr().err
