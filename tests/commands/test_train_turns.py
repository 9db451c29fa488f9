"""Sweeps that want the same devices: real launchers, real (fake) workers, one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from lora_foundry.commands import status
from lora_foundry.launch.machines.turns import holder_of
from lora_foundry.launch.plan.budget import Peak
from lora_foundry.launch.records.journal import is_held, read_journal
from lora_foundry.launch.records.ledger import sweep_at
from lora_foundry.wire.journal import BeganLine, JournalLine, WaitingLine, WorkerLine
from lora_foundry.wiring.forecast import TracedForecast
from tests import nursery
from tests.commands.ran import FAKE_WORKER, Command
from tests.launch.seeds import Seed, seeds
from tests.root import PROJECT_ROOT

_PATIENCE_S = 60.0
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(folder, "seed=0")`` is a sweep on its way."""
    started: list[subprocess.Popen[str]] = []

    def begin(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "src.train", *words, FAKE_WORKER, f"hydra.sweep.dir={folder}", "tracking=none"]
        started.append(
            nursery.Popen(
                [*line, "-m"],
                cwd=PROJECT_ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.terminate()
        process.communicate()


def _ended(process: subprocess.Popen[str]) -> str:
    """What it printed."""
    out, _ = process.communicate(timeout=_PATIENCE_S)
    return out


def _until(holds: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


J = TypeVar("J", bound=JournalLine)


def _told(folder: Path, kind: type[J]) -> list[J]:
    return [line for line in read_journal(folder) if isinstance(line, kind)]


def _trains(folder: Path) -> None:
    _until(lambda: _told(folder, BeganLine), f"{folder.name} to train")


def _waits(folder: Path, place: int = 1) -> None:
    def said() -> bool:
        return any(f"place {place} " in str(line.lines) for line in _told(folder, WaitingLine))

    _until(said, f"{folder.name} to wait at place {place}")


def _left_at(folder: Path) -> float:
    return max(line.t for line in _told(folder, WorkerLine) if line.state == "left")


def _states(folder: Path) -> list[str]:
    """Of its jobs; none before the sweep is written."""
    if not (folder / "sweep.json").exists():
        return []
    sweep = sweep_at(folder)
    return [sweep.word(job) for job in sweep.jobs]


def test_three_sweeps_go_in_the_order_in_which_they_came(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    first = start(a, seeds(Seed.ENDLESS))
    _trains(a)
    second = start(b, seeds(0, Seed.DIVERGES))
    _waits(b, 1)
    third = start(c, "seed=1")
    _waits(c, 2)
    assert _states(b) == ["PENDING", "PENDING"]
    assert status.main([str(b)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"waiting: cpu is in use by the sweep in {a} (pid {first.pid}); waiting, place 1 in the queue" in shown
    assert not _told(b, BeganLine)
    first.send_signal(signal.SIGINT)
    said = [_ended(process) for process in (first, second, third)]
    assert [process.returncode for process in (first, second, third)] == [130, 1, 0]
    assert (_states(a), _states(b), _states(c)) == (["KILLED"], ["FINISHED", "FAILED"], ["FINISHED"])
    assert _left_at(a) <= _told(b, BeganLine)[0].t
    assert _left_at(b) <= _told(c, BeganLine)[0].t
    assert said[1].count("place 1 in the queue") == 1, "once, not with every look"
    assert "is in use by" not in said[0]
    third_sweep = sweep_at(c)
    assert third_sweep.waiting == ()


def test_a_killed_launchers_device_is_free_when_its_worker_has_gone(start: Start, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    first = start(a, seeds(Seed.ENDLESS))
    _trains(a)
    worker = psutil.Process(_told(a, WorkerLine)[0].pid)
    worker.suspend()  # so that it cannot see at once that its launcher has gone
    second = start(b, "seed=0")
    _waits(b)
    first.kill()
    first.wait()
    _until(lambda: any("left behind" in str(line.lines) for line in _told(b, WaitingLine)), "the orphan to be told")
    assert worker.is_running()
    assert not _told(b, BeganLine)
    worker.resume()
    _ended(second)
    assert second.returncode == 0
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_leaves_the_queue(start: Start, tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    first = start(a, seeds(Seed.ENDLESS))
    _trains(a)
    second = start(b, "seed=0,1")
    _waits(b)
    third = start(c, "seed=2")
    _waits(c, 2)
    (b / "1" / "checkpoints").mkdir()
    (b / "1" / "checkpoints" / "step-00000001.safetensors").touch()  # as of a pack that was cut
    second.send_signal(signal.SIGINT)
    said = _ended(second)
    assert second.returncode == 130
    assert [row["error"] for row in json.loads((b / "results.json").read_text())] == [
        "interrupted before it started",
        "interrupted while it waited to go on",
    ]
    assert "Interrupted before anything was trained; the place in the queue is given up" in said
    _waits(c, 1)
    assert _states(a) == ["RUNNING"], "it trains on"
    first.send_signal(signal.SIGINT)
    _ended(third)
    assert third.returncode == 0


def test_a_waiting_sweep_whose_jobs_are_all_stopped_ends(start: Start, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    start(a, seeds(Seed.ENDLESS))
    _trains(a)
    second = start(b, "seed=0,1")
    _waits(b)
    for job in (0, 1):
        words = [sys.executable, "-m", "src.stop", str(b / str(job))]
        nursery.run(words, cwd=PROJECT_ROOT, check=True, capture_output=True)
    _ended(second)
    assert _states(b) == ["KILLED", "KILLED"]
    assert _states(a) == ["RUNNING"]


def test_two_sweeps_at_once_where_that_is_wanted(start: Start, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    start(a, seeds(Seed.ENDLESS))
    _trains(a)
    second = start(b, "seed=0", "hydra.launcher.share=true")
    assert "waiting" not in _ended(second)
    assert (_states(a), _states(b)) == (["RUNNING"], ["FINISHED"])


def _two_cards(folder: Path) -> dict[str, str]:
    """An environment in which the driver shows two cards (that tell no memory, so that nothing is predicted)."""
    folder.mkdir()
    cards = ", ".join(f"Card(bus={n}, uuid='GPU-{n}', total=None)" for n in (0, 1))
    lines = ["import sys", "from tests.launch.fake_nvml import Card, fake_nvml"]
    lines += [f"sys.modules[__name__] = fake_nvml([{cards}])"]
    (folder / "pynvml.py").write_text("\n".join(lines))
    return {"PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": "0,1"}


def test_of_two_devices_the_first_that_is_free_is_taken_and_each_is_given_back_in_turn(
    start: Start, tmp_path: Path
) -> None:
    cards = _two_cards(tmp_path / "nvml")
    a, b = tmp_path / "a", tmp_path / "b"
    first = start(a, seeds(Seed.ENDLESS, 0), "hydra.launcher.pack_size=1", **cards)
    _until(lambda: "FINISHED" in _states(a), "the short job of the first")
    _until(lambda: None in (holder_of("cuda-GPU-0"), holder_of("cuda-GPU-1")), "a device to be given back")
    second = start(b, "seed=1,2,3", "hydra.launcher.pack_size=1", **cards)
    out = _ended(second)
    assert second.returncode == 0
    assert "waiting" in out, "for the other device, while it trains on the first"
    held = {line.slot for line in _told(a, BeganLine) if 0 in line.jobs}
    assert held.isdisjoint({line.slot for line in _told(b, BeganLine)})
    assert len(_told(b, BeganLine)) == 3
    assert _states(a) == ["RUNNING", "FINISHED"]
    assert is_held(a)
    first.send_signal(signal.SIGINT)
    _ended(first)
    assert holder_of("cuda-GPU-0") is holder_of("cuda-GPU-1") is None


def test_both_devices_are_used(start: Start, tmp_path: Path) -> None:
    first = start(
        tmp_path / "a", seeds(Seed.ENDLESS, 78), "hydra.launcher.pack_size=1", **_two_cards(tmp_path / "nvml")
    )
    _until(lambda: len(_told(tmp_path / "a", BeganLine)) == 2, "both jobs")
    first.send_signal(signal.SIGINT)
    _ended(first)
    assert {line.slot for line in _told(tmp_path / "a", BeganLine)} == {"cuda-0", "cuda-1"}


def test_locks_that_cannot_be_made_are_told_before_anything_starts(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORA_FOUNDRY_LOCKS", str(tmp_path / "file" / "locks"))
    ran = command("seed=0", "-m")
    assert ran.code == 2
    assert "LORA_FOUNDRY_LOCKS" in ran.err
    assert not ran.sweep_dir.exists()
    assert command("seed=0", "hydra.launcher.share=true", "-m").code == 0


def test_a_pack_that_no_longer_fits_when_its_device_was_got_is_cut(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([100, 11])  # GiB: for the plan, and when it is its turn
    monkeypatch.setattr("lora_foundry.launch.machines.engines.local.memory_left", lambda: next(free) * 2**30)
    monkeypatch.setattr(TracedForecast, "peak_of", lambda _, configs, *__, **___: Peak(len(configs) * 2**32))
    ran = command("seed=0,1,2,3", "data.batch_size=1", "hydra.launcher.pack_size=4", "-m")
    assert ran.code == 0
    assert "pack-0: there is memory for 2 of 4 together" in ran.out  # 4 GiB each, 8.8 without the reserve
    assert [line.jobs for line in _told(ran.sweep_dir, BeganLine)] == [(0, 1), (2, 3)]
