"""Workers of this machine: how nice they are, how many threads they use, and what a setting may be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.engines.local import LocalEngine

CPU = Slot(name="cpu", device="cpu")
_ANSWER = """
import json, os, psutil, sys
me = psutil.Process()
print(json.dumps({"nice": me.nice(), "io": [int(me.ionice().ioclass), me.ionice().value], "pid": os.getpid()}))
"""
_TORCH = "import torch; print(torch.get_num_threads())"


def _answer(folder: Path, settings: Settings, slot: Slot = CPU) -> tuple[Any, int]:
    """What a worker that only says how it runs said, and its number as its launcher knows it."""
    worker = LocalEngine(settings).start(slot, folder, folder)
    assert worker.leave(60.0) == 0, worker.last_words()
    return json.loads(worker.log.read_text()), worker.pid


@pytest.mark.parametrize(
    ("nice", "ionice", "kind"),
    [
        (0, None, None),
        (5, None, None),
        (0, "idle", [psutil.IOPRIO_CLASS_IDLE]),
        (3, 7, [psutil.IOPRIO_CLASS_BE, 7]),
        (0, 0, [psutil.IOPRIO_CLASS_BE, 0]),
    ],
)
def test_a_worker_is_as_nice_as_it_was_told(tmp_path: Path, nice: int, ionice: Any, kind: list[int] | None) -> None:
    mine = psutil.Process()
    settings = Settings(worker_command=(sys.executable, "-c", _ANSWER), nice=nice, ionice=ionice)
    told, pid = _answer(tmp_path, settings)
    assert told["nice"] == mine.nice() + nice
    kind = kind or [int(mine.ionice().ioclass), mine.ionice().value]
    assert told["io"][: len(kind)] == kind  # of the class idle, the level means nothing
    assert told["pid"] == pid, "the worker itself, not a program around it, so that it can be ended"


@pytest.mark.slow
def test_torch_uses_the_slots_share_of_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr("lora_foundry.launch.machines.engines.local.cores", lambda: 2)
    engine = LocalEngine(Settings(slots=2))
    assert [slot.threads for slot in engine.slots("cpu")] == [1, 1]
    settings = Settings(worker_command=(sys.executable, "-c", _TORCH))
    for slot in (engine.slots("cpu")[0], Slot(name="cpu-9", device="cpu", threads=2)):
        threads, _ = _answer(tmp_path, settings, slot)
        assert threads == min(slot.threads or 0, psutil.cpu_count() or 1)  # torch takes no more than there are


def test_a_user_who_wants_fewer_threads_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = "import json, os; print(json.dumps([os.environ[f'{lib}_NUM_THREADS'] for lib in ('OMP', 'MKL')]))"
    settings = Settings(worker_command=(sys.executable, "-c", show))
    slot = Slot(name="cpu", device="cpu", threads=4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MKL_NUM_THREADS", "16")
    assert _answer(tmp_path, settings, slot)[0] == ["2", "4"]


@pytest.mark.parametrize("value", [None, "idle", 0, 7])
def test_good_levels(value: Any) -> None:
    Settings(ionice=value).check()


@pytest.mark.parametrize("value", ["realtime", 8, -1, "3"])
def test_wrong_levels(value: Any) -> None:
    with pytest.raises(SweepError, match=r"hydra.launcher.ionice: got .*, allowed is idle, 0 \(first\) to 7 \(last\)"):
        Settings(ionice=value).check()


def test_a_machine_without_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SweepError, match="there is no ionice command on this machine"):
        Settings(ionice="idle").check()
    Settings().check()
