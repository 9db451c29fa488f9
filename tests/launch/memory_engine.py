"""Workers without processes, and a clock that goes on when someone sleeps: supervision in milliseconds."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from lora_foundry.config.schema import JobConfig, Precision
from lora_foundry.launch.machines.engine import WORKER_LOST, Slot
from lora_foundry.wire.commands import (
    COMMANDS,
    Command,
    ExitCommand,
    JoinCommand,
    PackCommand,
    PruneJobCommand,
    StopCommand,
    StopJobCommand,
)
from lora_foundry.wire.events import Event, read_events
from tests.launch.fake_training import DiesNow, FakeTraining, HangsNow, stored_config

_KILLED = -9
_TURN_S = 0.01  # what a turn of a worker takes, as in a process
_MOST_TURNS = 20_000  # of one worker; no test needs half of them
_MOST_S = 24 * 3600.0


class Clock:
    """Stands in launch's modules for the module ``time``."""

    def __init__(self) -> None:
        self.now = self.began = 1_000_000.0
        self.watch: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now - self.began < _MOST_S, "nothing moves any more"
        self.watch()

    def stand_in(self, monkeypatch: pytest.MonkeyPatch, room: str) -> None:
        """Be the clock of every module of ``room`` that reads one."""
        for name, module in list(sys.modules.items()):
            if name.startswith(f"{room}.") and getattr(module, "time", None) is time:
                monkeypatch.setattr(module, "time", self)


class MemoryWorker:
    """Implements :class:`~lora_foundry.launch.machines.engine.Worker`; takes a turn when asked for events."""

    def __init__(self, training: FakeTraining, log: Path, clock: Clock, queue_s: float = 0.0) -> None:
        self.pid = training.pid
        self.code: int | None = None
        self.there_at = clock.now + queue_s
        self.log = log
        self._training = training
        self._clock = clock
        self._hangs = False
        self._words = ""
        self._spool: Path | None = None
        self._offset = 0
        self._turns = itertools.count()

    @property
    def starting(self) -> bool:
        return self._clock.now < self.there_at

    def run(self, pack: PackCommand) -> None:
        assert not self.starting, "nothing is sent to a worker that waits for its machine"
        self._spool = pack.spool
        self._offset = self._spool.stat().st_size if self._spool.exists() else 0
        self._take(pack)

    def join(self, jobs: JoinCommand) -> None:
        self._take(jobs)

    def events(self) -> list[Event]:
        self._turn()
        if self._spool is None:
            return []
        found, self._offset = read_events(self._spool, self._offset)
        return found

    def stop(self, job: int | None = None) -> None:
        self._take(StopCommand() if job is None else StopJobCommand(job=job))

    def prune(self, job: int) -> None:
        self._take(PruneJobCommand(job=job))

    def kill(self) -> None:
        self.code = _KILLED if self.code is None else self.code

    def leave(self, patience_s: float) -> int:
        self._take(ExitCommand())
        until = self._clock.now + patience_s
        while self.code is None and self._clock.now < until:
            self._turn()
        self.kill()
        return self.code or 0

    def last_words(self) -> str:
        return self._words

    def death(self) -> str:
        return f"{WORKER_LOST} was ended by SIGKILL" if self.code else f"{WORKER_LOST} ended with status 0"

    def _take(self, command: Command) -> None:
        if self.code is None:
            self._training.take(json.loads(COMMANDS.written(command)))

    def _turn(self) -> None:
        if self.code is not None:
            return
        self._clock.sleep(_TURN_S)
        if self._hangs:
            return
        assert next(self._turns) < _MOST_TURNS, "a worker that is never told to end"
        try:
            self._training.turn()
        except DiesNow as words:
            self.code, self._words = _KILLED, str(words)
        except HangsNow:
            self._hangs = True
        if self._training.over:
            self.code = 0


class MemoryEngine:
    """Implements :class:`lora_foundry.launch.machines.engine.Engine`.

    Args:
        clock: Goes on while workers are waited for.
        slots: How many.
        configs: Folder of a job to its configuration; null reads what lies there.
        unstartable: How many starts fail before the first that does not.
        queues: Seconds that each of the first workers waits for its machine.
        refused: Name of a slot to why its workers do not train on its device; may change.
        blocking: Is called inside the second start: an engine that returns late, against the protocol.

    Attributes:
        started: Every worker, in order.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        slots: int = 1,
        configs: Mapping[Path, JobConfig] | None = None,
        unstartable: int = 0,
        queues: Sequence[float] = (),
        refused: Mapping[str, str] | None = None,
        blocking: Callable[[], object] | None = None,
    ) -> None:
        self._refused = {} if refused is None else refused
        self._queues = list(queues)
        self._blocking = blocking
        self._starts = 0
        self.started: list[MemoryWorker] = []
        self._clock = clock
        self._slots = slots
        self._config_of = stored_config if configs is None else configs.__getitem__
        self._unstartable = unstartable
        self.precision: Precision = "32-true"
        self.left_out: tuple[str, ...] = ()

    def slots(self, accelerator: str, each: int | None = None) -> list[Slot]:  # noqa: ARG002  # the protocol's
        return [Slot(name=f"memory-{n}", device="cpu", precision=self.precision) for n in range(self._slots)]

    def start(self, slot: Slot, sweep_dir: Path, cwd: Path, inherit: Sequence[int] = ()) -> MemoryWorker:  # noqa: ARG002
        if self._unstartable > 0:
            self._unstartable -= 1
            raise OSError("no such program")
        self._starts += 1
        if self._starts == 2 and self._blocking is not None:
            self._blocking()
        queue_s = self._queues.pop(0) if self._queues else 0.0
        training = FakeTraining(
            sweep_dir, len(self.started) + 1, self._clock.time, self._config_of, self._refused.get(slot.name)
        )
        log = sweep_dir / f"worker-{slot.name}.log"
        self.started.append(MemoryWorker(training, log, self._clock, queue_s))
        return self.started[-1]
