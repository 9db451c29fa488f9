"""Workers as processes of this machine: started by module name, told what to do by JSON lines on their stdin."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.allowance import cores, memory_left, quota_bites
from lora_foundry.config.errors import SweepError
from lora_foundry.config.mending import mended
from lora_foundry.launch.machines.cards import Seen, cards_here, chosen, precision_of, refusal
from lora_foundry.launch.machines.devices import Gpu
from lora_foundry.launch.machines.engine import WORKER_LOST, Slot
from lora_foundry.launch.machines.engines import EngineChoice
from lora_foundry.launch.machines.environment import worker_environment
from lora_foundry.launch.machines.torch_build import TorchBuild, torch_build
from lora_foundry.launch.machines.turns import Holder, holder_of
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

if TYPE_CHECKING:
    from lora_foundry.config.launcher import Settings

# Without the working folder on its path: a user's own folder `src` there is not ours.
WORKER_COMMAND = (sys.executable, "-P", "-m", "lora_foundry.worker")
_TAIL_LINES = 20
_TAIL_BYTES = 16_384


class LocalEngine:
    """Implements :class:`~lora_foundry.launch.machines.engine.Engine` here: a GPU a slot, or the CPU."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._command = settings.worker_command or WORKER_COMMAND
        self.left_out: tuple[str, ...] = ()

    def slots(self, accelerator: str, each: int | None = None) -> list[Slot]:
        """See the protocol."""
        share = each or self._settings.slots_each
        seen = Seen() if accelerator == "cpu" else cards_here(self._build())
        refused = refusal(accelerator, seen)
        if refused is not None:
            raise SweepError([refused])
        self.left_out = () if self._settings.devices is not None else tuple(mended(line) for line in seen.lost)
        cards = chosen(self._settings.devices, seen, accelerator)
        if not cards:
            return self._of_cpu(share)
        alone = [f"GPU {card.label}" for card in cards if card.lets_in == "one"]
        if share > 1 and alone:
            why = f"{', '.join(alone)} lets in one process at a time (compute mode Exclusive_Process)"
            raise SweepError([f"hydra.launcher.slots: got {share}, but {mended(why)}; or leave it at 1"])
        return [slot for card in cards for slot in self._of_card(card, share)]

    def _build(self) -> TorchBuild | None:
        """The torch of the workers; null where another program is started, which may have one of its own."""
        return torch_build() if self._settings.worker_command is None else None

    def _of_card(self, card: Gpu, share: int) -> list[Slot]:
        lock = f"cuda-{card.uuid.replace('/', '_')}"
        holder = self._other(lock)
        room = card.free if holder is None else _once_gone(card, holder)
        return [
            Slot(
                name=_numbered(f"cuda-{card.label}", n, share),
                device=f"cuda:{card.label}",
                visible=card.uuid,
                model=card.name,
                precision=precision_of(card),
                capability=card.capability,
                memory=self._part(room, share),
                most=None if room is None else room // share,
                lock=lock,
                about=card.about() if holder is None else f"{card.about()}; {holder.about()}",
            )
            for n in range(share)
        ]

    def _of_cpu(self, share: int) -> list[Slot]:
        there = cores()
        holder, room = self._other("cpu"), memory_left()
        if holder is not None and room is not None:
            room += holder.resident()
        about = f"CPU, {there} {'cores' if there > 1 else 'core'}"
        return [
            Slot(
                name=_numbered("cpu", n, share),
                device="cpu",
                threads=max(1, there // share) if share > 1 or quota_bites() else None,
                memory=self._part(room, share),
                lock="cpu",
                about=about if holder is None else f"{about}; {holder.about()}",
            )
            for n in range(share)
        ]

    def _other(self, lock: str) -> Holder | None:
        """Another sweep that trains there now and will be waited for."""
        holder = None if self._settings.share else holder_of(lock)
        return None if holder is None or holder.pid == os.getpid() else holder

    def _part(self, room: int | None, share: int) -> int | None:
        return None if room is None else int(room * (1.0 - self._settings.reserve) / share)

    def start(self, slot: Slot, sweep_dir: Path, cwd: Path, inherit: Sequence[int] = ()) -> LocalWorker:
        """See the protocol."""
        return LocalWorker([*_manners(self._settings), *self._command], slot, sweep_dir, cwd, inherit)


def _once_gone(card: Gpu, holder: Holder) -> int | None:
    """Bytes that are free when ``holder`` has gone; in a container the driver's numbers of processes may not match."""
    if card.free is None:
        return None
    family = holder.family()
    theirs = [one.taken or 0 for one in card.tenants if one.pid in family]
    return card.free + sum(theirs) if theirs else card.total


def _manners(settings: Settings) -> list[str]:
    """What comes before a worker's command, so that it is nice from its first moment."""
    words = ["nice", "-n", str(settings.nice)] if settings.nice else []
    if settings.ionice is not None:
        words += (
            ["ionice", "-c", "3"] if settings.ionice == "idle" else ["ionice", "-c", "2", "-n", f"{settings.ionice}"]
        )
    return words


def _numbered(name: str, number: int, of: int) -> str:
    return f"{name}-{number}" if of > 1 else name


class LocalWorker:
    """A running worker in a session of its own, so that the terminal's Ctrl-C reaches the launcher alone."""

    def __init__(
        self, command: Sequence[str], slot: Slot, sweep_dir: Path, cwd: Path, inherit: Sequence[int] = ()
    ) -> None:
        """Start ``command``, without ``--sweep-dir``; the rest as :meth:`LocalEngine.start` has it.

        Raises:
            OSError: When the command cannot be started.
        """
        self.log = sweep_dir / f"worker-{slot.name}.log"
        self.starting = False  # a process of this machine waits for nothing
        self._from = self.log.stat().st_size if self.log.exists() else 0
        self._spool: Path | None = None
        self._offset = 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is this project's own or the user's choice
                [*command, "--sweep-dir", str(sweep_dir)],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=worker_environment(slot),
                start_new_session=True,
                pass_fds=tuple(inherit),
            )

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit status, or null while it runs."""
        return self._process.poll()

    def run(self, pack: PackCommand) -> None:
        """Send a pack, whose events are read from its spool from here on."""
        spool = pack.spool
        self._spool, self._offset = spool, spool.stat().st_size if spool.exists() else 0
        self._send(pack)

    def join(self, jobs: JoinCommand) -> None:
        """Send more jobs to the pack under way."""
        self._send(jobs)

    def events(self) -> list[Event]:
        """New whole lines of the pack's spool."""
        if self._spool is None:
            return []
        events, self._offset = read_events(self._spool, self._offset)
        return events

    def _send(self, command: Command) -> None:
        """Write one command; a worker that is gone is noticed by :attr:`code`."""
        pipe = self._pipe()
        rest = memoryview(COMMANDS.written(command))
        try:
            while rest and not pipe.closed:  # a signal may cut a write short
                rest = rest[pipe.write(rest) :]
        except BrokenPipeError:
            return  # the reader ended, which the caller sees by the exit status

    def stop(self, job: int | None = None) -> None:
        """Ask for a checkpoint and an end within seconds."""
        self._send(StopCommand() if job is None else StopJobCommand(job=job))

    def prune(self, job: int) -> None:
        """Ask for one job's end within seconds, PRUNED."""
        self._send(PruneJobCommand(job=job))

    def kill(self) -> None:
        """End the worker and its children at once."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def leave(self, patience_s: float) -> int:
        """Let an idle worker go; one that stays longer than ``patience_s`` is killed. Returns its exit status."""
        self._send(ExitCommand())
        self._pipe().close()
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def last_words(self) -> str:
        """The end of what this worker wrote to its log."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._from, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").rstrip().splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def death(self) -> str:
        """How it ended, in words."""
        code = self.code or 0
        if code >= 0:
            return f"{WORKER_LOST} ended with status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = " (often the system's answer to too little memory)" if name == "SIGKILL" else ""
        return f"{WORKER_LOST} was ended by {name}{hint}"

    def _pipe(self) -> FileIO:
        pipe = self._process.stdin
        if not isinstance(pipe, FileIO):
            msg = "the worker was started without a pipe of its own"
            raise TypeError(msg)
        return pipe


class _Local(EngineChoice):
    def problems(self, group: Settings, /) -> list[str]:
        if group.ionice is None or shutil.which("ionice") is not None:
            return []
        return [
            f"hydra.launcher.ionice: got {group.ionice!r}, but there is no ionice command on this machine; install "
            "util-linux, or leave it null"
        ]

    def build(self, settings: Settings) -> LocalEngine:
        return LocalEngine(settings)


CHOICE = _Local()
