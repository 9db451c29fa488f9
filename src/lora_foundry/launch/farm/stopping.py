"""How a sweep, or one of its jobs, is stopped: what is asked, and what the launcher does about it.

Signals are counted instead of raised (:class:`Interrupts`), commands of people are read from the sweep's folder, and
:class:`Stops` answers both between two looks at the workers. What a worker does when it is told so is in
``worker/commands.py`` (one flag) and ``training/fit.py`` (a checkpoint, then KILLED).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal, Self

from lora_foundry.launch.farm.ends import Ends
from lora_foundry.launch.farm.stations import Station
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.screen.live import Screen
from lora_foundry.wire.control import Control
from lora_foundry.wire.journal import AskedLine, InterruptedLine

STOP_S = 60.0
"""Patience with a clean stop of the whole sweep, until its workers are killed."""
_SAME_INSTANT_S = 0.2
_STOPPING = "stopping: saving checkpoints (once more Ctrl-C ends at once and loses the last steps)"
_UNSTARTED, _QUEUED = "Interrupted before anything was trained", "; the place in the queue is given up"


class Interrupts:
    """Counts interrupts while it is entered; signals reach it in the main thread only.

    Attributes:
        asked: Whether an interrupt came: it asks for a clean stop.
        insisted: Whether a second came: it asks for an end at once. A second signal of the same instant
            (a shell and a terminal that both hang up) and a repeated hang-up do not count.
        hung_up: Whether the terminal is gone.
        since: When the first came (monotonic seconds).
        finishing: Set when no worker runs any more; insisting then raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self.insisted = False
        self.hung_up = False
        self.finishing = False
        self.since = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def waited_s(self) -> float:
        """Seconds since the first interrupt."""
        return time.monotonic() - self.since if self.asked else 0.0

    def ask(self) -> None:
        """Ask for a clean stop, as the first Ctrl-C does; asking again changes nothing."""
        if not self.asked:
            self.since = time.monotonic()
            self.asked = True

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.hung_up = True
        elif self.waited_s() > _SAME_INSTANT_S:
            self.insisted = True
        self.ask()
        if self.finishing and self.insisted:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before = signal.getsignal(number)
                if number == signal.SIGHUP and before == signal.SIG_IGN:
                    continue  # nohup
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()


class Stops:
    """Answers an interrupt of the sweep, and requests to stop or prune a job.

    Args:
        sweep_dir: The sweep's folder, where people ask.
        stations: Where packs train.
        jobs: By number.
        ends: Ends jobs that no worker has.
        interrupts: Entered by the caller.
        journal: The sweep's open journal.
        screen: Where the user is told.
    """

    def __init__(
        self,
        sweep_dir: Path,
        *,
        stations: Sequence[Station],
        jobs: Mapping[int, LiveJob],
        ends: Ends,
        interrupts: Interrupts,
        journal: Journal,
        screen: Screen,
    ) -> None:
        self._control = Control(sweep_dir)
        self._stations = stations
        self._jobs = jobs
        self._ends = ends
        self._interrupts = interrupts
        self._journal = journal
        self._screen = screen
        self._answered = False

    def heed(self) -> None:
        """An interrupt stops every worker, the second kills them, and so does a stop that takes too long."""
        for number in self._control.stops():
            if number is None:
                self._interrupts.ask()
            elif number in self._jobs:
                self._stop_job(self._jobs[number])
        if not self._interrupts.asked:
            return
        if self._interrupts.hung_up:
            self._screen.mute()
        workers = [station.worker for station in self._stations if station.worker is not None and station.task]
        if not self._answered:
            self._answered = True
            self._journal.write(InterruptedLine())
            self._screen.phase(_STOPPING, keep=True)
            for worker in workers:
                worker.stop()
        if self._interrupts.insisted or self._interrupts.waited_s() > STOP_S:
            for worker in workers:
                worker.kill()

    def _stop_job(self, job: LiveJob) -> None:
        if not job.ended:
            job.stopping = True
            self._end_alone(job, "stop")

    def prune(self, job: LiveJob) -> None:
        """End a job after the step under way, PRUNED; one that waits ends at once, one that has ended stays so."""
        if not job.ended and not job.pruning:
            job.pruning = True
            self._end_alone(job, "prune")

    def _end_alone(self, job: LiveJob, to: Literal["stop", "prune"]) -> None:
        """Its worker is told, where it has one; the others of its pack go on."""
        number = job.record.index
        self._journal.write(AskedLine(job=number, to=to))
        for station in self._stations:
            if station.task and number in station.task.pack.jobs and station.worker is not None:
                tell = station.worker.stop if to == "stop" else station.worker.prune
                tell(number)
                return
        self._ends.left(job, "stopped" if to == "stop" else "pruned")

    def hurry(self, station: Station) -> None:
        """A worker that is to leave while it trains stops, and at once where somebody insists."""
        worker = station.worker
        if worker is not None and worker.code is None and station.task:
            worker.stop()
        if worker is not None and self._interrupts.insisted:
            worker.kill()

    def settle(self, *, queued: bool) -> None:
        """Jobs without an end are KILLED, as only an interrupt leaves them.

        Args:
            queued: Whether the sweep waited for a device.
        """
        if self._interrupts.asked and all(job.state == "PENDING" for job in self._jobs.values()):
            self._screen.line(_UNSTARTED + (_QUEUED if queued else ""), "yellow")
        for job in self._jobs.values():
            if not job.ended:
                self._ends.left(job, "interrupted")
