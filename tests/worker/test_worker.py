"""The worker as the launcher sees it: commands in, events out, with the embedded base and real drawings."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lora_foundry.lora.bank import AdapterBank
from lora_foundry.lora.rows import RowPlan
from lora_foundry.memory.watch import Watch
from lora_foundry.training.bases import Bases
from lora_foundry.training.checkpoint import load_newest
from lora_foundry.training.member import Member
from lora_foundry.training.preparing import Encoders
from lora_foundry.training.shortage import OutOfMemoryError
from lora_foundry.wire.commands import COMMANDS, JoinCommand, OwnDevice, PackCommand, PackedJob
from lora_foundry.wire.events import (
    Event,
    ImageEvent,
    LogEvent,
    MemoryEvent,
    MetricsEvent,
    NoDevice,
    PackEnded,
    StateEvent,
    TagsEvent,
    read_events,
)
from lora_foundry.worker.commands import Commands
from lora_foundry.worker.run import run_pack, work
from lora_foundry.worker.spool import Spool
from tests import nursery
from tests.root import PROJECT_ROOT
from tests.training.world import distance

CPU = OwnDevice(kind="cpu")
QUICK = (
    "sample=none",
    "trainer.max_steps=2",
    "data.batch_size=1",
    "validation.every=null",
    "validation.timesteps=1",
    "validation.max_images=1",
    "scheduler.warmup_steps=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "lora.target_modules=[to_q,ff.net.2,conv1]",  # of each kind, soon injected
)


@pytest.fixture(scope="module")
def bases() -> Bases:
    """The base stays loaded from test to test, as it does from pack to pack."""
    return Bases(torch.device("cpu"))


def _job(root: Path, number: int, *overrides: str, resume: bool = False) -> PackedJob:
    folder = root / str(number)
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=[*QUICK, f"data.cache_dir={root.parent / 'cache'}", *overrides])
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return PackedJob(job=number, dir=folder, name=f"flat-{number}", resume=resume)


def _pack(root: Path, *jobs: PackedJob) -> PackCommand:
    return PackCommand(pack="pack-0", spool=root / "spool" / "pack-0.jsonl", device=CPU, least_gain=None, jobs=jobs)


def _join(root: Path, *jobs: PackedJob) -> JoinCommand:
    return JoinCommand(pack="pack-0", spool=root / "spool" / "pack-0.jsonl", device=CPU, least_gain=None, jobs=jobs)


def _command(root: Path, *jobs: PackedJob) -> tuple[PackCommand, Commands]:
    commands = Commands(io.StringIO())
    commands._take(_pack(root, *jobs))
    command = commands.next_pack()
    assert command is not None
    return command, commands


def _run(root: Path, bases: Bases, *jobs: PackedJob, watch: Watch | None = None) -> list[Event]:
    command, commands = _command(root, *jobs)
    spool = Spool(command.spool, root)
    run_pack(command, bases, spool, commands, root, watch or Watch())
    spool.close()
    return read_events(command.spool)[0]


def _ends(events: list[Event]) -> dict[int, str]:
    return {event.job: event.state for event in events if isinstance(event, StateEvent)}


@pytest.mark.slow
def test_a_pack_trains_and_everything_is_told(tmp_path: Path, bases: Bases) -> None:
    options = ("data=emoji-flat", "sample=default", "sample.prompts=[red heart]", "sample.steps=2")
    events = _run(tmp_path, bases, _job(tmp_path, 0, *options), _job(tmp_path, 1, *options, "lora.rank=2"))
    assert _ends(events) == {0: "FINISHED", 1: "FINISHED"}
    for number in (0, 1):
        mine = [event for event in events if event.job == number]
        summary = next(e.summary for e in mine if isinstance(e, StateEvent) and e.state == "FINISHED")
        assert summary is not None
        assert (tmp_path / str(summary.file)).stat().st_size == summary.bytes
        assert (tmp_path / str(summary.diffusers_file)).exists()
        assert summary.file == f"{number}/adapter/flat-{number}.safetensors"
        logged = {key for event in mine if isinstance(event, MetricsEvent) for key in event.values}
        assert {"train/loss", "train/grad_norm", "val/loss_rel", "perf/samples_per_s", "adapter/norm"} <= logged
        pictures = [event for event in mine if isinstance(event, ImageEvent)]
        assert {(e.step, e.scale) for e in pictures} == {(s, x) for s in (0, 2) for x in (0.0, 1.0)}
        assert all((tmp_path / e.path).exists() for e in pictures)
        tags = next(event.values for event in mine if isinstance(event, TagsEvent))
        assert len(tags["base_hash"]) >= 32
        assert len(tags["data_hash"]) >= 32
    keys = [{e.key for e in events if isinstance(e, ImageEvent) and e.job == number} for number in (0, 1)]
    assert keys[0] == keys[1]


@pytest.mark.slow
def test_a_worker_that_cannot_use_its_card_says_why_trains_nothing_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that is too old, a card that was lost since the plan: it took all cores of the CPU instead."""

    def fail() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(torch.cuda, "init", fail)
    monkeypatch.setattr("lora_foundry.worker.run.run_pack", lambda *_: pytest.fail("something was trained"))
    commands = Commands(io.StringIO())
    command = replace(_pack(tmp_path, _job(tmp_path, 0)), device=OwnDevice(kind="cuda", memory=8 * 2**30))
    for _ in range(2):
        commands._take(command)
    work(commands, tmp_path)
    (said,) = read_events(command.spool)[0]
    assert isinstance(said, NoDevice)
    assert said.reason.startswith("The NVIDIA driver on your system is too old (found version 11040); bring the driver")


@pytest.mark.slow
def test_a_shortage_in_a_librarys_words_is_the_jobs_own_and_no_reason_to_replace_the_process(
    tmp_path: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pack at the end of its ladder says quotes the library, which has the same words for a lost card."""
    command, commands = _command(tmp_path, _job(tmp_path, 0, *QUICK))

    def train(error: Exception) -> list[Event]:
        spool = Spool(command.spool, tmp_path)
        monkeypatch.setattr("lora_foundry.worker.run.check_jobs", Mock(side_effect=error))
        try:
            with Watch() as watch:
                run_pack(command, bases, spool, commands, tmp_path, watch)
        finally:
            spool.close(commands.stopping)
        return read_events(command.spool)[0]

    told = "duotone: its adapter and optimizer do not fit beside the base (cuDNN error: CUDNN_STATUS_INTERNAL_ERROR)"
    states = [event for event in train(OutOfMemoryError(told)) if isinstance(event, StateEvent)]
    assert [(one.state, one.error) for one in states] == [("FAILED", f"OutOfMemoryError: {told}")]
    with pytest.raises(RuntimeError, match="CUDNN_STATUS_INTERNAL_ERROR"):
        train(RuntimeError(told))


@pytest.mark.slow
def test_a_worker_takes_no_second_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr("lora_foundry.worker.run.run_pack", lambda _, bases, *__: ran.append(bases.device.type))
    commands = Commands(io.StringIO())
    command = _pack(tmp_path, _job(tmp_path, 0))
    for one in (command, command, replace(command, device=OwnDevice(kind="cuda"))):
        commands._take(one)
    work(commands, tmp_path)
    assert ran == ["cpu", "cpu"]
    (said,) = read_events(command.spool)[0]
    assert isinstance(said, NoDevice)
    assert said.reason == "this worker has cpu and was told cuda later"


@pytest.mark.slow
def test_a_warmup_that_outlasts_the_epochs_is_told_and_tagged(tmp_path: Path, bases: Bases) -> None:
    """Steps of epochs are known once the images are counted: 2 % of 64 at batch 1 are two."""
    epochs = ("data=emoji-flat", "trainer.epochs=0.02", "scheduler=constant")
    events = _run(tmp_path, bases, _job(tmp_path, 0, *epochs, "scheduler.warmup_steps=8"), _job(tmp_path, 1, *epochs))
    said = [e for e in events if isinstance(e, LogEvent) and "warmup_steps" in e.message]
    assert [(e.job, e.level) for e in said] == [(0, "warning")]
    assert said[0].message.startswith("scheduler.warmup_steps=8 with 2 optimizer steps in all")
    tagged = [e for e in events if isinstance(e, TagsEvent) and "warning.warmup" in e.values]
    assert {e.job: e.values["warning.warmup"] for e in tagged} == {0: said[0].message}


@pytest.mark.parametrize("loaded", [True, False])
def test_an_earlier_packs_base_makes_room_for_what_is_encoded(
    loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No base is predicted to be there while images are encoded; a worker keeps the last one for the next pack."""
    bases, there = Bases(torch.device("cpu")), []
    if loaded:
        bases._loaded = object()  # type: ignore[assignment]

    def encode(*_: object) -> list[Member]:
        there.append(bases.loaded)
        if len(there) == 1:
            raise OutOfMemoryError("no room for a picture")
        return []

    monkeypatch.setattr(Encoders, "members", encode)
    events = _run(tmp_path, bases, _job(tmp_path, 0))
    assert there == ([True, False] if loaded else [False])
    assert _ends(events) == ({} if loaded else {0: "FAILED"})


@pytest.mark.slow
def test_jobs_that_come_later_join_and_those_that_come_too_late_are_the_next_pack(tmp_path: Path, bases: Bases) -> None:
    jobs = [_job(tmp_path, n, f"trainer.max_steps={steps}") for n, steps in enumerate((6, 2, 2))]
    command, commands = _command(tmp_path, jobs[0])

    class Telling(Spool):
        """Sends a join when the first job runs, and another when the pack is over but for its last word."""

        def emit(self, event: Event) -> None:
            super().emit(event)
            if isinstance(event, StateEvent) and (event.job, event.state) == (0, "RUNNING"):
                commands._take(_join(tmp_path, jobs[1]))
            if isinstance(event, StateEvent) and (event.job, event.state) == (0, "FINISHED"):
                commands._take(_join(tmp_path, jobs[2]))

    spool = Telling(command.spool, tmp_path)
    run_pack(command, bases, spool, commands, tmp_path, Watch())
    spool.close()
    events = read_events(command.spool)[0]
    assert _ends(events) == {0: "FINISHED", 1: "FINISHED"}
    assert isinstance(events[-1], PackEnded)
    assert events[-1].jobs == (0, 1)
    running = [
        event.job for event in events if isinstance(event, StateEvent) and event.state in ("RUNNING", "FINISHED")
    ]
    assert running == [0, 1, 1, 0], "it began and ended while the other trained"
    late = commands.next_pack()
    assert late is not None
    assert [job.job for job in late.jobs] == [2]
    assert late.pack == "pack-0"


@pytest.mark.slow
def test_a_job_that_joins_with_bad_data_fails_alone(tmp_path: Path, bases: Bases) -> None:
    jobs = [_job(tmp_path, 0, "trainer.max_steps=4"), _job(tmp_path, 1, "data.path=/nowhere/at/all")]
    command, commands = _command(tmp_path, jobs[0])
    with commands.under_way(command.pack):
        commands._take(_join(tmp_path, jobs[1]))
        joining = commands.joining()
    assert [[job.job for job in one.jobs] for one in joining] == [[1]]

    def once() -> list[PackCommand]:
        return [joining.pop()] if joining else []

    commands.joining = once  # type: ignore[method-assign]
    spool = Spool(command.spool, tmp_path)
    run_pack(command, bases, spool, commands, tmp_path, Watch())
    spool.close()
    events = read_events(command.spool)[0]
    assert _ends(events) == {0: "FINISHED", 1: "FAILED"}


@pytest.mark.slow
def test_a_job_with_bad_data_fails_alone_before_a_base_is_loaded(tmp_path: Path, bases: Bases) -> None:
    shutil.copytree(PROJECT_ROOT / "assets" / "emoji-flat" / "train", tmp_path / "bad")
    broken = sorted((tmp_path / "bad").glob("*.png"))[:2]
    broken[0].unlink()
    broken[1].write_bytes(broken[1].read_bytes()[:100])
    events = _run(tmp_path, bases, _job(tmp_path, 0, f"data.path={tmp_path / 'bad'}"), _job(tmp_path, 1))
    assert _ends(events) == {0: "FAILED", 1: "FINISHED"}
    error = next(e.error for e in events if isinstance(e, StateEvent) and e.state == "FAILED")
    assert "2 problems" in error
    assert all(image.name in error for image in broken)


@pytest.mark.slow
def test_a_job_without_a_readable_config_fails_alone(tmp_path: Path, bases: Bases) -> None:
    jobs = [_job(tmp_path, 0), _job(tmp_path, 1)]
    (tmp_path / "0" / ".hydra" / "config.yaml").write_text("lora: {rank: -3}\n")
    assert _ends(_run(tmp_path, bases, *jobs)) == {0: "FAILED", 1: "FINISHED"}


@pytest.mark.slow
def test_an_error_in_training_fails_the_packs_jobs_and_the_worker_goes_on(
    tmp_path: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("lora_foundry.training.fit._train_together", explode)
    events = _run(tmp_path / "a", bases, _job(tmp_path / "a", 0))
    assert _ends(events) == {0: "FAILED"}
    assert "the sky fell" in next(e.error for e in events if isinstance(e, StateEvent))
    assert isinstance(events[-1], PackEnded)
    monkeypatch.undo()
    assert _ends(_run(tmp_path / "b", bases, _job(tmp_path / "b", 0))) == {0: "FINISHED"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "SIGTERM", "closed pipe"])
def test_a_worker_that_is_told_to_end_saves_and_a_second_one_continues(how: str, tmp_path: Path) -> None:
    job = _job(tmp_path, 0, "trainer.max_steps=10000", "scheduler=constant", "trainer.log_every=1")
    with _start(tmp_path) as worker:
        assert worker.stdin is not None
        worker.stdin.write(COMMANDS.written(_pack(tmp_path, job)).decode())
        worker.stdin.flush()
        _wait_for(tmp_path, lambda events: any(isinstance(e, MetricsEvent) and e.step >= 2 for e in events))
        if how == "stop":
            worker.stdin.write('{"cmd": "stop"}\n')
            worker.stdin.flush()
        elif how == "SIGTERM":
            worker.send_signal(signal.SIGTERM)
        else:
            worker.stdin.close()
        assert worker.wait(timeout=60) == 0
    events, _ = read_events(tmp_path / "spool" / "pack-0.jsonl")
    assert _ends(events) == {0: "KILLED"}
    step = load_newest(tmp_path / "0" / "checkpoints")[0].count.step
    assert step >= 2
    assert step == max(e.step for e in events if isinstance(e, MetricsEvent))


def _start(root: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lora_foundry.worker", "--sweep-dir", str(root)]
    return nursery.Popen(command, stdin=subprocess.PIPE, text=True, cwd=PROJECT_ROOT, env=environment)


def _wait_for(root: Path, seen: Any, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen(read_events(root / "spool" / "pack-0.jsonl")[0]):
            return
        time.sleep(0.1)
    raise TimeoutError(read_events(root / "spool" / "pack-0.jsonl")[0])


class Scarce(Watch):
    """A watch that finds too much taken while a forward pass has more than so many rows."""

    def __init__(self, most_rows: int) -> None:
        super().__init__()
        self.rows = 0
        self._most = most_rows

    def check(self) -> None:
        if self.rows > self._most:
            raise OutOfMemoryError(f"{self.rows} rows")


@pytest.mark.slow
def test_a_sweep_that_does_not_fit_ends_with_what_was_asked_for(
    tmp_path: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(root: Path, watch: Watch | None) -> tuple[list[Event], list[Event]]:
        jobs = [
            _job(
                root,
                n,
                "data.batch_size=4",
                f"lora.rank={4 * (n + 1)}",
                "trainer.max_steps=3",
                "trainer.precision=64-true",
            )
            for n in range(3)
        ]
        events = _run(root, bases, *jobs, watch=watch)
        return events, [load_newest(job.dir / "checkpoints")[0].weights for job in jobs]

    _, asked = train(tmp_path / "asked", None)
    watch = Scarce(2)
    rows = AdapterBank.rows

    def counted(self: AdapterBank, plan: RowPlan) -> Any:
        watch.rows = plan.n_rows
        return rows(self, plan)

    monkeypatch.setattr(AdapterBank, "rows", counted)
    events, eased = train(tmp_path / "eased", watch)
    assert _ends(events) == dict.fromkeys(range(3), "FINISHED")
    rungs = [e.rung for e in events if isinstance(e, MemoryEvent) and e.job == 0]
    assert rungs == ["split", "split", "micro_batch"]
    summary = next(e.summary for e in events if isinstance(e, StateEvent) and e.job == 2 and e.summary)
    assert summary.memory is not None
    assert summary.memory["micro_batch"] == 2
    assert summary.memory["accumulate"] == 2
    for one, other in zip(eased, asked, strict=True):
        assert distance(one, other) < 1e-9


@pytest.mark.slow
def test_what_may_change_starts_a_job_anew(tmp_path: Path, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def check(_: Watch) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise OutOfMemoryError("short")

    monkeypatch.setattr(Watch, "check", check)
    job = _job(tmp_path, 0, "lora.rank=8", "lora.alpha=2x", "memory.may_change=[rank]")
    events = _run(tmp_path, bases, job)
    rungs = [e.rung for e in events if isinstance(e, MemoryEvent)]
    assert rungs == ["checkpointing", "changed"]
    assert _ends(events) == {0: "FINISHED"}
    weights = load_newest(tmp_path / "0" / "checkpoints")[0].weights
    assert {value.shape[0] for key, value in weights.items() if key.endswith(".A")} == {4}
    assert json.loads((tmp_path / "0" / "memory.json").read_text()) == {"lora.rank": 4, "lora.alpha": 8.0}


@pytest.mark.slow
def test_a_limit_below_the_base_is_one_clear_error(tmp_path: Path, bases: Bases) -> None:
    events = _run(tmp_path, bases, _job(tmp_path, 0, "memory.limit_gib=0.1"))
    error = next(e.error for e in events if isinstance(e, StateEvent))
    assert "memory.limit_gib: got 0.1, but the base's weights alone take 0.04 GiB" in error
    assert "allowed is more than" in error
