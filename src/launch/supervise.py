"""Packs, one after another, through worker processes; what the worker says becomes states of the jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.config.events import Event, read_events
from src.launch.journal import ENDED, Journal
from src.launch.members import Member
from src.launch.plan import Pack
from src.launch.process import WORKER_COMMAND, Worker
from src.launch.screen import Screen
from src.launch.signals import Interrupts

_TICK_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """How workers are started, and how long they are waited for.

    Attributes:
        command: The worker's command line.
        cwd: Folder that it runs in.
        stop_s: Seconds for a clean stop after an interrupt, then it is killed.
        leave_s: Seconds for an idle worker to go.
    """

    command: tuple[str, ...] = WORKER_COMMAND
    cwd: Path
    stop_s: float = 60.0
    leave_s: float = 15.0


class Supervisor:
    """Runs a sweep's packs and keeps its members up to date; never raises for one job."""

    def __init__(
        self,
        *,
        sweep_dir: Path,
        worker: WorkerSettings,
        members: dict[int, Member],
        journal: Journal,
        screen: Screen,
        interrupts: Interrupts,
    ) -> None:
        """Nothing is started yet.

        Args:
            sweep_dir: The sweep's folder.
            worker: How workers are started.
            members: Job number to member; states are written into it.
            journal: The sweep's open journal.
            screen: Where the user is told.
            interrupts: Entered by the caller.
        """
        self._sweep_dir = sweep_dir
        self._settings = worker
        self._members = members
        self._journal = journal
        self._screen = screen
        self._interrupts = interrupts
        self._worker: Worker | None = None
        self._asked_at: float | None = None

    def run(self, packs: Sequence[Pack], spools: Sequence[Path]) -> None:
        """Train every pack; ``spools`` are the files that the worker appends the packs' events to."""
        try:
            for pack, spool in zip(packs, spools, strict=True):
                if self._interrupts.asked:
                    break
                self._screen.pack(pack)
                self._feed(pack, spool)
        finally:
            self._dismiss()
        for member in self._members.values():
            if not member.ended:
                self._settle(member, "KILLED", error="interrupted before it started")

    def _feed(self, pack: Pack, spool: Path) -> None:
        try:
            worker = self._alive()
        except OSError as error:
            self._lose(pack, f"the worker could not be started ({' '.join(self._settings.command)}): {error}", "")
            return
        offset = spool.stat().st_size if spool.exists() else 0
        worker.send(
            {
                "cmd": "pack",
                "pack": pack.name,
                "spool": str(spool),
                "jobs": [
                    {
                        "job": number,
                        "dir": str(self._members[number].record.dir),
                        "name": self._members[number].record.name,
                        "resume": self._members[number].resume,
                    }
                    for number in pack.jobs
                ],
            }
        )
        self._follow(worker, pack, spool, offset)

    def _follow(self, worker: Worker, pack: Pack, spool: Path, offset: int) -> None:
        while True:
            gone = worker.code is not None  # asked before reading, so that its last events are read
            events, offset = read_events(spool, offset)
            ends = [self._take(event) for event in events]
            if any(ends):
                self._lose(pack, "the worker ended the pack without a result for this job", worker.last_words())
                return
            if gone:
                self._journal.write("worker", state="ended", pid=worker.pid, code=worker.code)
                self._lose(pack, worker.death(), worker.last_words())
                return
            self._heed(worker)
            self._screen.refresh()
            if not events:
                time.sleep(_TICK_S)

    def _alive(self) -> Worker:
        if self._worker is not None and self._worker.code is not None:
            self._worker.leave(0.0)
            self._worker = None
        if self._worker is None:
            self._worker = Worker(self._settings.command, self._sweep_dir, self._settings.cwd, self._journal.fileno())
            self._journal.write("worker", state="started", pid=self._worker.pid, command=list(self._settings.command))
            self._screen.phase("starting the worker")
        return self._worker

    def _take(self, event: Event) -> bool:
        """Fold one event; true when it ends the pack."""
        kind, member = event["kind"], self._members.get(event.get("job"))  # type: ignore[arg-type]
        if kind == "worker":
            return bool(event.get("state") == "pack_ended")
        if kind == "log":
            self._screen.said(member, str(event.get("level", "info")), str(event.get("message", "")))
        elif member is None:
            return False
        elif kind == "progress":
            member.progress(event)
        elif kind == "memory":
            self._journal.write("memory", **{key: value for key, value in event.items() if key not in ("t", "kind")})
        elif kind == "state" and event.get("state") in ("RUNNING", *ENDED) and not member.ended:
            self._settle(member, event["state"], error=event.get("error"), summary=event.get("summary"))
        return False

    def _settle(self, member: Member, state: str, *, error: str | None = None, summary: dict | None = None) -> None:
        member.settle(state, error=error, summary=summary)
        self._journal.write("job", job=member.record.index, state=state, error=error, summary=summary)
        self._screen.changed(member)

    def _lose(self, pack: Pack, why: str, last_words: str) -> None:
        """Settle the jobs of a pack that ended without them."""
        unsettled = [self._members[n] for n in pack.jobs if not self._members[n].ended]
        state = "KILLED" if self._interrupts.asked else "FAILED"
        for member in unsettled:
            self._settle(member, state, error=why if state == "FAILED" else "interrupted")
        if unsettled and state == "FAILED":
            self._screen.last_words(last_words, self._sweep_dir / "worker.log")

    def _heed(self, worker: Worker) -> None:
        """Answer interrupts: the first stops, the second kills, and so does a stop that takes too long."""
        if not self._interrupts.asked:
            return
        if self._interrupts.hung_up:
            self._screen.mute()
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._journal.write("interrupted")
            self._screen.phase("stopping: saving checkpoints (once more Ctrl-C ends at once and loses the last steps)")
            worker.stop()
        if self._interrupts.insisted or self._interrupts.waited_s() > self._settings.stop_s:
            worker.kill()

    def _dismiss(self) -> None:
        worker = self._worker
        if worker is None:
            return
        if worker.code is None and self._unfinished():
            worker.stop()
        patience = self._settings.stop_s if self._unfinished() else self._settings.leave_s
        if self._interrupts.insisted:
            worker.kill()
        code = worker.leave(patience)
        self._journal.write("worker", state="left", pid=worker.pid, code=code)

    def _unfinished(self) -> bool:
        return any(member.state == "RUNNING" for member in self._members.values())
