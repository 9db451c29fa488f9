"""The one writer of a sweep: a thread of the launcher that follows the spool and keeps MLflow up to date."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.called import command_line
from lora_foundry.config.collector import importing
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.tracking.errors import SweepBusyError, TrackingError, in_one_line, passing_errors
from lora_foundry.tracking.records import JobRecord
from lora_foundry.tracking.trackfile import LOCK, PARENT, TrackFile, open_track_file
from lora_foundry.wire.control import ask_to_stop

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from lora_foundry.tracking.ingest import Ingest

# Seconds for pictures and files between two looks at the metrics.
_FILES_BUDGET_S = 1.5
_NICENESS = 5


class SweepWriter:
    """Ingests ``sweep_dir/spool/*.jsonl`` while the sweep runs.

    Training never waits for it: when the store is away, :attr:`problem` says so, the spool grows, and what it
    holds is logged when the store is back, or later by ``python -m src.track``.
    """

    patience_s = 30.0
    """How long :meth:`close` tries again while the store is away."""
    silence_s = 180.0
    """How long :meth:`close` waits for a store that neither answers nor fails (making a new database on a busy
    machine takes a minute)."""

    def __init__(
        self, sweep_dir: Path, jobs: Sequence[JobRecord], tracking: TrackingConfig, sweep_id: str, command: str
    ) -> None:
        """Prepare, without importing MLflow or touching its store.

        Raises:
            TrackingError: When ``tracking`` names a store that cannot be used, or the folder's
                ``tracking.json`` is not readable.
        """
        self._dir = sweep_dir.absolute()
        self._flush_s = tracking.flush_s
        self._track: TrackFile | None = None
        if tracking.enabled:
            self._track = open_track_file(self._dir, tracking, sweep_id, command)
            self._track.add(jobs, self._dir)
        self._states: dict[str, str] = {}
        self._closing = threading.Event()
        self._added = threading.Event()
        self._thread: threading.Thread | None = None
        self._ingest: Ingest | None = None
        self.settled = False
        self._trouble: str | None = None
        self._last_progress = time.monotonic()

    @property
    def view(self) -> str | None:
        """Where the page of MLflow's that compares the jobs is, behind the address of its server; null of one job."""
        if self._ingest is None or self._track is None or len(self._track.jobs) < 2:
            return None
        from lora_foundry.tracking.views import address_of_view

        return address_of_view(self._ingest.runs.store.experiment_id, self._track.sweep)

    @property
    def problem(self) -> str | None:
        """One line for the user while something is not recorded; null when all is well."""
        return self._trouble

    def start(self) -> None:
        """Write ``tracking.json`` and follow the spool in a thread."""
        if self._track is None:
            return
        self._track.save(self._dir)
        self._thread = threading.Thread(target=self._follow, args=(self._track,), name="tracking", daemon=True)
        self._thread.start()

    def add(self, jobs: Sequence[JobRecord]) -> None:
        """Take in jobs that came while the sweep runs; before anything of them is told."""
        if self._track is not None:
            self._track.add(jobs, self._dir)
            self._added.set()

    def close(self, states: dict[int, str]) -> None:
        """Log the rest of the spool and end the runs: each job with its state, the sweep with what they give.

        Gives up after :attr:`patience_s` when the store is away; :attr:`problem` then tells how to log the rest later.
        """
        if self._track is None or self._thread is None:
            return
        self._states = {str(index): state for index, state in states.items()}
        self._last_progress = time.monotonic()
        self._closing.set()
        while self._thread.is_alive() and time.monotonic() - self._last_progress < self.silence_s:
            self._thread.join(0.05)
        if self._thread.is_alive():
            self._give_up("MLflow does not answer")

    def _follow(self, track: TrackFile) -> None:
        _yield_to_worker()
        ended = False
        try:
            self._record(track)
            ended = True
        except TrackingError as error:
            self._give_up(in_one_line(error))
            ended = True
        finally:
            if not ended:
                self._give_up("the tracking thread stopped on an error of its own (see the traceback)")

    def _record(self, track: TrackFile) -> None:
        from filelock import FileLock
        from tenacity import stop_after_delay, stop_when_event_set

        with importing():
            from lora_foundry.tracking.store import prepare_environment

        prepare_environment()
        lock = FileLock(self._dir / LOCK)
        try:
            while not self._closing.is_set():
                self._insist(lambda: self._pass(track, lock), stop_when_event_set(self._closing))
                self._closing.wait(self._flush_s)
            track.ended.update(self._states)
            self._insist(lambda: self._end(track, lock), stop_after_delay(self.patience_s))
        finally:
            lock.release(force=True)

    def _insist(self, action: Callable[[], None], stop: object) -> None:
        """Do ``action``, again and again with growing pauses while the store is away, until ``stop`` says so."""
        from tenacity import (
            RetryError,
            Retrying,
            retry_if_exception_type,
            sleep_using_event,
            wait_exponential,
            wait_random,
        )

        pause = wait_exponential(multiplier=0.25, max=2.0 if self._closing.is_set() else 10.0) + wait_random(0.0, 0.25)
        try:
            Retrying(
                retry=retry_if_exception_type(passing_errors()),
                wait=pause,
                stop=stop,  # type: ignore[arg-type]
                sleep=time.sleep if self._closing.is_set() else sleep_using_event(self._closing),
                before_sleep=self._report,
            )(action)
        except RetryError as error:
            self._ingest = None
            self._give_up(in_one_line(error.last_attempt.exception() or error))
            return
        self._trouble = self._skipped()

    def _pass(self, track: TrackFile, lock: object) -> None:
        ingest = self._connected(track, lock)
        if self._added.is_set():
            self._added.clear()
            track.save(self._dir)
            ingest.runs.rename()
        if ingest.flush(_FILES_BUDGET_S):
            self._last_progress = time.monotonic()
        if not self.settled:
            from lora_foundry.tracking.orphans import settle_dead_sweeps

            settle_dead_sweeps(ingest.runs.store, except_sweep=track.sweep)
            self.settled = True
        for key in ingest.runs.asked_to_stop():
            ask_to_stop(self._dir, None if key == PARENT else int(key))

    def _end(self, track: TrackFile, lock: object) -> None:
        track.save(self._dir)
        ingest = self._connected(track, lock)
        while ingest.flush(_FILES_BUDGET_S) or ingest.waiting:
            self._last_progress = time.monotonic()
        ingest.finish(self._states, time.time())

    def _connected(self, track: TrackFile, lock: object) -> Ingest:
        if self._ingest is None:
            from lora_foundry.tracking.ingest import connect

            _hold(lock)
            self._ingest = connect(track, self._dir)
            self._ingest.runs.claim_parent()
            self._last_progress = time.monotonic()
        return self._ingest

    def _report(self, state: RetryCallState) -> None:
        # What was stored is read back from the store by a new Ingest: the failed call may have arrived.
        self._ingest = None
        error = state.outcome.exception() if state.outcome else None
        self._trouble = f"MLflow is away, training goes on: {in_one_line(error) if error else 'no answer'}"

    def _skipped(self) -> str | None:
        skipped = self._ingest.skipped if self._ingest else []
        return f"{len(skipped)} not logged in MLflow, the first: {skipped[0]}" if skipped else None

    def _give_up(self, why: str) -> None:
        later = command_line("track", self._dir)
        self._trouble = f"not everything is in MLflow: {why}. Log the rest later with: {later}"


def _hold(lock: object) -> None:
    from filelock import FileLock, Timeout

    assert isinstance(lock, FileLock)  # noqa: S101 - narrows a lazily imported type
    if lock.is_locked:
        return
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SweepBusyError("another process records this sweep") from error


def _yield_to_worker() -> None:
    """Lower this thread's priority, which Linux allows for one thread alone."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
