"""Turns on one device, taken by real processes: each says what it has, and ends when its input does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.launch.machines import turns
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.sharing import Sharing, check_locks
from lora_foundry.launch.machines.turns import Turn, holder_of, locks_dir
from tests.root import PROJECT_ROOT

_SWEEP = """
import subprocess, sys, time
from pathlib import Path
from lora_foundry.launch.machines.turns import Turn
turn = Turn("cpu", Path(sys.argv[1]))
while not turn.ask():
    print(turn.place, flush=True)
    time.sleep(0.1)
print("got", flush=True)
if len(sys.argv) > 2:
    worker = subprocess.Popen(["sleep", "60"], pass_fds=(turn.descriptor,), stdout=subprocess.DEVNULL)
    print(worker.pid, flush=True)
sys.stdin.read()
turn.leave()
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start("a")`` is a process that asks for its turn until it has it, and leaves at the end of its input."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _SWEEP, *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=PROJECT_ROOT, text=True, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _says(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return
    pytest.fail(f"it ended without saying {wanted!r}")


def _ends(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(20)


def _tickets() -> list[str]:
    return sorted(path.name for path in (locks_dir() / "cpu.queue").iterdir())


@pytest.mark.slow
def test_who_asked_first_is_next(start: Start) -> None:
    first = start("first")
    _says(first, "got")
    second = start("second")
    _says(second, "1")
    third = start("third")
    _says(third, "2")
    _ends(first)
    _says(second, "got")
    _says(third, "1")
    _ends(second)
    _says(third, "got")
    assert _tickets() == []


def test_who_looks_first_when_a_device_becomes_free_does_not_go_before_who_asked_first(tmp_path: Path) -> None:
    first, second, third = (Turn("cpu", tmp_path) for _ in range(3))
    assert first.ask()
    assert not second.ask()
    assert not third.ask()
    first.leave()
    assert not third.ask()
    assert third.place == 2
    assert second.ask()
    second.leave()
    assert third.ask()
    third.leave()


@pytest.mark.slow
def test_the_dead_in_the_queue_are_passed_over_and_their_tickets_swept(start: Start) -> None:
    first = start("first")
    _says(first, "got")
    second = start("second")
    _says(second, "1")
    third = start("third")
    _says(third, "2")
    second.kill()
    second.wait()
    _says(third, "1")
    assert len(_tickets()) == 1
    first.kill()
    _says(third, "got")


@pytest.mark.slow
def test_a_worker_keeps_the_device_of_its_killed_launcher(start: Start) -> None:
    first = start("first", "with a worker")
    _says(first, "got")
    assert first.stdout is not None
    worker = int(first.stdout.readline())
    try:
        first.kill()
        first.wait()
        holder = holder_of("cpu")
        assert holder is not None
        assert not holder.alive()
        assert holder.about() == "in use by a worker that the sweep in first left behind"
        second = start("second")
        _says(second, "1")
        time.sleep(0.3)
        assert holder_of("cpu") == holder, "still"
    finally:
        os.kill(worker, signal.SIGKILL)
    _says(second, "got")


@pytest.mark.slow
def test_a_stopped_sweep_keeps_its_place_and_holds_nobody_up(start: Start) -> None:
    first = start("first")
    _says(first, "got")
    second = start("second")
    _says(second, "1")
    second.send_signal(signal.SIGSTOP)
    try:
        (ticket,) = (locks_dir() / "cpu.queue").iterdir()
        mine = Turn("cpu", Path("mine"))
        assert not mine.ask()
        assert mine.place == 2
        os.utime(ticket, (0, 0))  # not heard of for long
        assert not mine.ask()
        assert mine.place == 1
        _ends(first)
        _until(mine.ask)
        mine.leave()
    finally:
        second.send_signal(signal.SIGCONT)
    _says(second, "got")


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whose_it_is_stands_in_the_lock(tmp_path: Path) -> None:
    turn = Turn("cpu", tmp_path / "a sweep")
    assert holder_of("cpu") is None
    assert turn.ask()
    holder = holder_of("cpu")
    assert holder is not None
    assert (holder.pid, holder.sweep) == (os.getpid(), str(tmp_path / "a sweep"))
    assert holder.about() == f"in use by the sweep in {tmp_path}/a sweep (pid {os.getpid()})"
    assert os.getpid() in holder.family()
    assert holder.resident() > 10 * 2**20, "bytes of a Python process"
    turn.leave()
    assert holder_of("cpu") is None


def test_a_process_with_the_number_of_a_dead_launcher_is_not_it() -> None:
    holder = turns.Holder(pid=os.getpid(), since=1.0, sweep="x")  # this process was born after 1970
    assert not holder.alive()
    assert holder.family() == frozenset()
    assert holder.resident() == 0


def test_a_swept_folder_of_locks_is_made_again(tmp_path: Path) -> None:
    first, second = Turn("cpu", tmp_path), Turn("cpu", tmp_path)
    assert first.ask()
    assert not second.ask()
    (ticket,) = (locks_dir() / "cpu.queue").iterdir()
    ticket.unlink()
    assert not second.ask()
    assert len(_tickets()) == 1
    first.leave()
    assert second.ask()
    second.leave()


def test_other_files_in_the_queue_do_no_harm(tmp_path: Path) -> None:
    queue = locks_dir() / "cpu.queue"
    queue.mkdir(parents=True)
    (queue / ".DS_Store").touch()
    (queue / "000000007").touch()  # of a process that has gone
    turn = Turn("cpu", tmp_path)
    assert turn.ask()
    turn.leave()
    assert _tickets() == [".DS_Store"]


def test_the_default_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORA_FOUNDRY_LOCKS")
    assert locks_dir().name == f"lora-foundry-{os.getuid()}"
    before = locks_dir()
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert locks_dir() == before, "sweeps with other environments are kept apart too"


def test_a_folder_of_locks_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORA_FOUNDRY_LOCKS", str(tmp_path / "file" / "locks"))
    with pytest.raises(SweepError, match=r"LORA_FOUNDRY_LOCKS, or train without turns: hydra.launcher.share=true"):
        check_locks(share=False)
    check_locks(share=True)


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LORA_FOUNDRY_LOCKS")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr(turns, "locks_dir", lambda: tmp_path / "link")
    with pytest.raises(SweepError, match="another user's"):
        check_locks(share=False)


def _slot(name: str, lock: str | None, memory: int = 0) -> Slot:
    return Slot(name=name, device=name.replace("-", ":", 1), lock=lock, memory=memory)


class _Told(list[list[str]]):
    def __call__(self, lines: object) -> None:
        self.append(list(lines))  # type: ignore[call-overload]


@pytest.fixture
def told() -> _Told:
    return _Told()


def _sharing(tmp_path: Path, told: _Told, *slots: Slot, share: bool = False, name: str = "s") -> Sharing:
    return Sharing(tmp_path / name, lambda: slots, told, share=share)


def _take(sharing: Sharing, slot: Slot) -> Slot | None:
    time.sleep(0.26)  # it looks four times a second
    return sharing.take(slot)


def test_the_memory_of_a_slot_is_asked_for_when_its_device_was_got(tmp_path: Path, told: _Told) -> None:
    planned, other = _slot("cuda-0", "cuda-A", 5), _slot("cuda-1", "cuda-B", 5)
    with _sharing(tmp_path, told, _slot("cuda-0", "cuda-A", 7), _slot("cuda-1", "cuda-B", 9)) as sharing:
        assert sharing.take(planned) == _slot("cuda-0", "cuda-A", 7)
        assert sharing.known([planned, other]) == [_slot("cuda-0", "cuda-A", 7), other], "the other was not got"


def test_the_first_free_device_is_taken_and_the_other_waited_for(tmp_path: Path, told: _Told) -> None:
    one, other = _slot("cuda-0", "cuda-A"), _slot("cuda-1", "cuda-B")
    with _sharing(tmp_path, told, name="x") as first, _sharing(tmp_path, told) as second:
        assert first.take(one) == one
        assert second.take(one) is None
        assert second.take(other) == other
        second.say()
        second.say()
        assert len(told) == 1, "once"
        (line,) = told[0]
        assert line.startswith(f"cuda:0 is in use by the sweep in {tmp_path}/x (pid {os.getpid()}); waiting, place 1")
        first.give_back(one)
        assert _take(second, one) == one
        second.say()
        assert told[1:] == [[]], "and told once that it is over"


def test_a_device_is_given_back_when_none_of_its_slots_needs_it(tmp_path: Path, told: _Told) -> None:
    a, b = _slot("cpu-0", "cpu"), _slot("cpu-1", "cpu")
    with _sharing(tmp_path, told) as sharing:
        assert sharing.take(a) == a
        assert sharing.take(b) == b
        assert sharing.descriptors(a) == sharing.descriptors(b) != ()
        sharing.give_back(a)
        assert holder_of("cpu") is not None
        sharing.give_back(b)
        assert holder_of("cpu") is None
        assert sharing.descriptors(a) == ()


def test_who_no_longer_needs_a_device_leaves_its_queue(tmp_path: Path, told: _Told) -> None:
    slot = _slot("cpu", "cpu")
    with _sharing(tmp_path, told, name="x") as first, _sharing(tmp_path, told) as second:
        first.take(slot)
        second.take(slot)
        second.say()
        assert len(_tickets()) == 1
        second.give_back(slot)
        second.say()
        assert _tickets() == []
        assert told[-1] == []


def test_devices_that_wait_for_the_same_sweep_are_told_in_one_line(tmp_path: Path, told: _Told) -> None:
    slots = [_slot("cuda-0", "cuda-A"), _slot("cuda-1", "cuda-B")]
    with _sharing(tmp_path, told, name="x") as first, _sharing(tmp_path, told) as second:
        for slot in slots:
            first.take(slot)
            second.take(slot)
        second.say()
        ((line,),) = told
        assert line.startswith("cuda:0, cuda:1 is in use by")


def test_whether_another_sweep_waits_for_a_device_is_seen_and_leaves_its_ticket(
    tmp_path: Path, told: _Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_foundry.launch.machines.sharing._EVERY_S", 0.0)
    slot = Slot(name="a", device="cpu", lock="cpu")
    with _sharing(tmp_path, told, slot, name="first") as first, _sharing(tmp_path, told, slot) as second:
        assert not first.wanted(slot), "it has nothing yet"
        assert first.take(slot)
        assert not first.wanted(slot)
        assert second.take(slot) is None
        assert first.wanted(slot)
        assert first.wanted(slot), "looking changes nothing"
        first.give_back(slot)
        assert second.take(slot)
        assert not second.wanted(slot)
        assert not second.wanted(Slot(name="b", device="cpu")), "one that is not taken in turns"


def test_no_turns_where_none_are_wanted(tmp_path: Path, told: _Told) -> None:
    slot = _slot("cpu", "cpu")
    with _sharing(tmp_path, told, name="x") as first, _sharing(tmp_path, told, share=True) as second:
        first.take(slot)
        assert second.take(slot) == slot
        assert second.descriptors(slot) == ()
        free = _slot("node-7", None)
        assert first.take(free) == second.take(free) == free, "what a cluster lends"


def test_locks_that_cannot_be_written_any_more_are_told_and_tried_again(
    tmp_path: Path, told: _Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = _slot("cpu", "cpu")
    with _sharing(tmp_path, told) as sharing:
        with monkeypatch.context() as broken:
            (tmp_path / "file").touch()
            broken.setenv("LORA_FOUNDRY_LOCKS", str(tmp_path / "file" / "locks"))
            assert sharing.take(slot) is None
            sharing.say()
            assert "cannot be taken: the folder of locks" in told[0][0]
        assert _take(sharing, slot) == slot


def test_what_stands_in_a_ticket(tmp_path: Path) -> None:
    first, second = Turn("cpu", tmp_path / "x"), Turn("cpu", tmp_path / "y")
    first.ask()
    second.ask()
    (ticket,) = (locks_dir() / "cpu.queue").iterdir()
    told = json.loads(ticket.read_text())
    assert list(told) == ["pid", "since", "sweep"]
    assert told["sweep"] == str(tmp_path / "y")
    assert ticket.stat().st_mode & 0o077 == 0, "nobody else's business"
    first.leave()
    second.leave()


@pytest.mark.parametrize("told", ["", "{", "null", "[1]", '{"pid": 1}', '{"pid": "1", "since": 2.0, "sweep": "x"}'])
def test_a_device_whose_holder_wrote_nothing_that_can_be_read_is_taken_all_the_same(told: str, tmp_path: Path) -> None:
    turn = Turn("cpu", tmp_path)
    assert turn.ask()
    (locks_dir() / "cpu.lock").write_text(told)
    holder = holder_of("cpu")
    assert holder is not None
    assert (holder.pid, holder.sweep) == (0, "another folder")
    turn.leave()
