"""Workers as processes of this machine: started by module name, told what to do by JSON lines on their stdin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.events import Event, read_events
from src.config.paths import PROJECT_ROOT
from src.launch.devices import Gpu, gpus
from src.launch.engines.protocol import WORKER_LOST, Slot
from src.launch.points import SweepError

if TYPE_CHECKING:
    from src.launch.settings import Settings

WORKER_COMMAND = (sys.executable, "-m", "src.worker")
_TAIL_LINES = 20
_TAIL_BYTES = 16_384


class LocalEngine:
    """Implements :class:`src.launch.engines.protocol.Engine` on this machine: a GPU a slot, or the CPU."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._command = settings.worker_command or WORKER_COMMAND

    def slots(self, accelerator: str) -> list[Slot]:
        """See the protocol."""
        found = [] if accelerator == "cpu" else gpus()
        if accelerator == "gpu" and not found:
            raise SweepError(["trainer.accelerator: got gpu, but nvidia-smi shows none; allowed here is cpu or auto"])
        share, budget = self._settings.slots, 1.0 - self._settings.reserve
        if not found:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            threads = max(1, cores // share) if share > 1 else None
            room = _available()
            memory = None if room is None else int(room * budget / share)
            about = f"CPU, {cores} cores"
            return [
                Slot(name=_numbered("cpu", n, share), device="cpu", threads=threads, memory=memory, about=about)
                for n in range(share)
            ]
        return [
            Slot(
                name=_numbered(f"cuda-{card.index}", n, share),
                device=f"cuda:{card.index}",
                model=card.name,
                memory=int(card.free * budget / share),
                about=f"{card.name}, {card.free / 2**30:.1f} of {card.total / 2**30:.1f} GiB free",
            )
            for card in self._chosen(found)
            for n in range(share)
        ]

    def _chosen(self, found: list[Gpu]) -> list[Gpu]:
        wanted = self._settings.devices
        if wanted is None:
            seen = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
            return [card for card in found if str(card.index) in seen] or found
        there = {card.index: card for card in found}
        missing = [number for number in wanted if number not in there]
        if missing:
            raise SweepError(
                [f"hydra.launcher.devices: got {list(wanted)}, allowed are {', '.join(map(str, there))} (nvidia-smi)"]
            )
        return [there[number] for number in wanted]

    def start(self, slot: Slot, sweep_dir: Path, cwd: Path, inherit: int) -> LocalWorker:
        """See the protocol."""
        return LocalWorker(self._command, slot, sweep_dir, cwd, inherit, nice=self._settings.nice)


def _available() -> int | None:
    """Bytes that this machine can still give."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _numbered(name: str, number: int, of: int) -> str:
    return f"{name}-{number}" if of > 1 else name


class LocalWorker:
    """A running worker in a session of its own, so that the terminal's Ctrl-C reaches the launcher alone."""

    def __init__(
        self, command: Sequence[str], slot: Slot, sweep_dir: Path, cwd: Path, inherit: int, *, nice: int = 0
    ) -> None:
        """Start ``command``, without ``--sweep-dir``; the rest as :meth:`LocalEngine.start` has it.

        Raises:
            OSError: When the command cannot be started.
        """
        self.log = sweep_dir / f"worker-{slot.name}.log"
        self._from = self.log.stat().st_size if self.log.exists() else 0
        self._spool: Path | None = None
        self._offset = 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is this project's own or the user's choice
                [*(["nice", "-n", str(nice)] if nice else []), *command, "--sweep-dir", str(sweep_dir)],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment(slot),
                start_new_session=True,
                pass_fds=(inherit,),
            )

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit status, or null while it runs."""
        return self._process.poll()

    def run(self, pack: dict[str, Any]) -> None:
        """Send a pack, whose events are read from its spool from here on."""
        spool = Path(pack["spool"])
        self._spool, self._offset = spool, spool.stat().st_size if spool.exists() else 0
        self._send({"cmd": "pack", **pack})

    def join(self, pack: dict[str, Any]) -> None:
        """Send more jobs to the pack under way."""
        self._send({"cmd": "join", **pack})

    def events(self) -> list[Event]:
        """New whole lines of the pack's spool."""
        if self._spool is None:
            return []
        events, self._offset = read_events(self._spool, self._offset)
        return events

    def _send(self, command: dict[str, Any]) -> None:
        """Write one command; a worker that is gone is noticed by :attr:`code`."""
        pipe = self._pipe()
        rest = memoryview(json.dumps(command).encode() + b"\n")
        try:
            while rest and not pipe.closed:  # a signal may cut a write short
                rest = rest[pipe.write(rest) :]
        except BrokenPipeError:
            return  # the reader ended, which the caller sees by the exit status

    def stop(self, job: int | None = None) -> None:
        """Ask for a checkpoint and an end within seconds."""
        self._send({"cmd": "stop"} if job is None else {"cmd": "stop_job", "job": job})

    def kill(self) -> None:
        """End the worker and its children at once."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def leave(self, patience_s: float) -> int:
        """Let an idle worker go; one that stays longer than ``patience_s`` is killed. Returns its exit status."""
        self._send({"cmd": "exit"})
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


def _environment(slot: Slot) -> dict[str, str]:
    path = os.environ.get("PYTHONPATH")
    parts = [str(PROJECT_ROOT), *([path] if path else [])]
    made = {**os.environ, "PYTHONPATH": os.pathsep.join(parts), "PYTHONUNBUFFERED": "1"}
    kind, _, number = slot.device.partition(":")
    if kind == "cuda":  # before torch is loaded, or it sees every card
        made |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": number}
    if slot.threads is not None:
        made["OMP_NUM_THREADS"] = str(slot.threads)
    return made
