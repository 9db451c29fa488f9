"""What every engine has to do: a new file has to pass these with real workers.

The engine in memory, with which supervision is tested, passes what is not of processes: else those tests would mean
nothing.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from lora_foundry.config.choices import ENGINES
from lora_foundry.config.compose import compose_job
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.machines.engine import WORKER_LOST, Engine, Slot, Worker
from lora_foundry.launch.machines.engines import engine_of
from lora_foundry.wire.commands import JoinCommand, OwnDevice, PackCommand, PackedJob
from lora_foundry.wire.events import Event, PackEnded, ProgressEvent, StateEvent, read_events
from tests.launch.memory_engine import Clock, MemoryEngine
from tests.launch.seeds import Seed
from tests.launch.start_fake_worker import COMMAND

CPU = OwnDevice(kind="cpu")
IN_MEMORY = "memory"
of_processes = pytest.mark.parametrize("engine", ENGINES.names(), indirect=True)


@pytest.fixture(params=[*ENGINES.names(), IN_MEMORY])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == IN_MEMORY:
        return MemoryEngine(Clock())
    return engine_of(Settings(engine=request.param, worker_command=COMMAND))


@pytest.fixture
def slot(engine: Engine) -> Slot:
    return engine.slots("cpu")[0]


Start = Callable[..., Worker]


@pytest.fixture
def start(engine: Engine, slot: Slot, tmp_path: Path) -> Iterator[Start]:
    started: list[Worker] = []
    with (tmp_path / "lock").open("w") as lock:

        def begin() -> Worker:
            started.append(engine.start(slot, tmp_path, Path.cwd(), (lock.fileno(),)))
            return started[-1]

        yield begin
        for worker in started:
            worker.kill()
            worker.leave(10.0)


def _pack(folder: Path, *seeds: int, name: str = "pack-0") -> PackCommand:
    jobs = []
    for number, seed in enumerate(seeds):
        stored = folder / str(number) / ".hydra" / "config.yaml"
        stored.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(dataclasses.asdict(compose_job(f"seed={int(seed)}"))), stored)
        jobs.append(PackedJob(job=number, dir=folder / str(number), name=f"job{number}", resume=False))
    return PackCommand(
        pack=name, spool=folder / "spool" / f"{name}.jsonl", device=CPU, least_gain=None, jobs=tuple(jobs)
    )


def _joining(pack: PackCommand, first: int = 0) -> JoinCommand:
    jobs = tuple(dataclasses.replace(one, job=one.job + first) for one in pack.jobs)
    return JoinCommand(pack=pack.pack, spool=pack.spool, device=CPU, least_gain=None, jobs=jobs)


def _until(worker: Worker, found: Callable[[Event], bool]) -> list[Event]:
    """Its events up to the first that is ``found``."""
    seen: list[Event] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen += worker.events()
        if any(found(event) for event in seen):
            return seen
        assert worker.code is None, worker.last_words()
        time.sleep(0.02)
    pytest.fail(f"not told within a minute: {seen[-3:]}")


def _over(event: Event) -> bool:
    return isinstance(event, PackEnded)


@pytest.fixture(autouse=True)
def _spool(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()


def test_a_start_returns_at_once_and_the_worker_is_there_when_it_starts_no_more(start: Start) -> None:
    before = time.monotonic()
    worker = start()
    assert time.monotonic() - before < 5.0, "no queue is waited for"
    while worker.starting:
        assert worker.code is None
        time.sleep(0.02)
    assert worker.code is None


@pytest.mark.slow
def test_a_pack_is_trained_and_told_in_order_and_in_the_spool_too(start: Start, tmp_path: Path) -> None:
    worker = start()
    pack = _pack(tmp_path, 0, 1)
    worker.run(pack)
    seen = _until(worker, _over)
    assert seen == read_events(pack.spool)[0]
    assert [event.job for event in seen if isinstance(event, StateEvent) and event.state == "FINISHED"] == [0, 1]
    assert worker.events() == []


@pytest.mark.slow
def test_the_same_worker_takes_a_second_pack_and_tells_nothing_of_the_first(start: Start, tmp_path: Path) -> None:
    worker = start()
    for name in ("pack-0", "pack-1"):
        worker.run(_pack(tmp_path, 0, name=name))
        assert {event.pack for event in _until(worker, _over) if hasattr(event, "pack")} == {name}
    assert worker.code is None
    assert worker.leave(20.0) == 0
    assert worker.code == 0


@pytest.mark.slow
def test_one_job_is_stopped(start: Start, tmp_path: Path) -> None:
    worker = start()
    worker.run(_pack(tmp_path, Seed.ENDLESS, 0))
    _until(worker, lambda event: isinstance(event, ProgressEvent) and event.job == 0)
    worker.stop(0)
    seen = _until(worker, _over)
    assert [event.job for event in seen if isinstance(event, StateEvent) and event.state == "KILLED"] == [0]


@pytest.mark.slow
def test_a_stop_ends_the_worker(start: Start, tmp_path: Path) -> None:
    worker = start()
    worker.run(_pack(tmp_path, Seed.ENDLESS))
    _until(worker, lambda event: isinstance(event, ProgressEvent))
    worker.stop()
    assert worker.leave(20.0) == 0
    assert [event.state for event in worker.events() if isinstance(event, StateEvent)] == ["KILLED"]


@pytest.mark.slow
def test_a_death_is_told_with_its_signal_and_last_words(start: Start, tmp_path: Path) -> None:
    worker = start()
    worker.run(_pack(tmp_path, Seed.DIES))
    deadline = time.monotonic() + 60
    while worker.code is None and time.monotonic() < deadline:
        worker.events()
        time.sleep(0.02)
    assert worker.death().startswith(WORKER_LOST)
    assert "SIGKILL" in worker.death()
    assert "the fake worker fell over" in worker.last_words()
    worker.stop()
    worker.run(_pack(tmp_path, 0))
    worker.kill()  # none of these minds that it is gone


@pytest.mark.slow
@of_processes
def test_a_kill_takes_the_workers_children_along(start: Start, tmp_path: Path) -> None:
    worker = start()
    worker.run(_pack(tmp_path, Seed.DEAF))
    _until(worker, lambda event: isinstance(event, ProgressEvent))
    family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    worker.kill()
    assert worker.leave(10.0) < 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


@pytest.mark.slow
def test_a_worker_that_does_not_leave_is_killed(start: Start, tmp_path: Path) -> None:
    worker = start()
    worker.run(_pack(tmp_path, Seed.DEAF))
    _until(worker, lambda event: isinstance(event, ProgressEvent))
    assert worker.leave(0.2) < 0


@of_processes
def test_it_sees_its_own_device_alone(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    show = "import os, sys; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('OMP_NUM_THREADS'))"
    engine = type(engine)(Settings(worker_command=(sys.executable, "-c", show)))  # type: ignore[call-arg]
    with (tmp_path / "lock").open("w") as lock:
        slot = Slot(name="cuda-3", device="cuda:3", threads=2)
        worker = engine.start(slot, tmp_path, Path.cwd(), (lock.fileno(),))
        assert worker.leave(20.0) == 0
    assert worker.log.read_text().split() == ["3", "2"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None


@of_processes
def test_it_says_why_it_cannot_start(engine: Engine, slot: Slot, tmp_path: Path) -> None:
    engine = type(engine)(Settings(worker_command=("/nowhere/python",)))  # type: ignore[call-arg]
    with (tmp_path / "lock").open("w") as lock, pytest.raises(OSError, match="/nowhere/python"):
        engine.start(slot, tmp_path, Path.cwd(), (lock.fileno(),))


@pytest.mark.slow
def test_jobs_join_the_pack_under_way(start: Start, tmp_path: Path) -> None:
    worker = start()
    worker.run(_pack(tmp_path, Seed.ENDLESS))
    _until(worker, lambda event: isinstance(event, ProgressEvent))
    worker.join(_joining(_pack(tmp_path, 0, 1), first=1))
    seen = _until(worker, lambda event: event.job == 2 and isinstance(event, StateEvent) and event.state == "FINISHED")
    assert [event.job for event in seen if isinstance(event, StateEvent) and event.state == "FINISHED"] == [1, 2]
    worker.stop(0)
    assert _until(worker, _over)[-1].jobs == (0, 1, 2)


@pytest.mark.slow
def test_who_comes_too_late_is_the_next_pack_of_the_same_name(start: Start, tmp_path: Path) -> None:
    worker = start()
    worker.run(_pack(tmp_path, 0))
    _until(worker, _over)
    worker.join(_joining(_pack(tmp_path, 1)))
    seen = _until(worker, _over)
    assert [event.job for event in seen if isinstance(event, StateEvent) and event.state == "FINISHED"] == [0]
    assert seen[-1].pack == "pack-0"


@pytest.mark.slow
@of_processes
def test_what_it_inherits_is_held_until_it_has_gone(engine: Engine, slot: Slot, tmp_path: Path) -> None:
    def held() -> bool:
        with (tmp_path / "device").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    with (tmp_path / "sweep").open("w") as sweep, (tmp_path / "device").open("w") as device:
        fcntl.flock(device, fcntl.LOCK_EX)
        worker = engine.start(slot, tmp_path, Path.cwd(), (sweep.fileno(), device.fileno()))
    try:
        assert held(), "though the launcher has it no longer"
    finally:
        worker.leave(20.0)
    assert not held()
