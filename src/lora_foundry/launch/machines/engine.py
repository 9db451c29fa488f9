"""What starts, watches and ends workers: the one place where it matters what they run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lora_foundry.config.schema import Precision
from lora_foundry.wire.commands import JoinCommand, OwnDevice, PackCommand
from lora_foundry.wire.events import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A device, or a share of one, on which one worker runs packs.

    Attributes:
        name: Unique among the slots of a sweep; part of file names.
        device: ``cpu``, or ``cuda:`` and the card's number as the driver counts.
        visible: What CUDA_VISIBLE_DEVICES names the device by, where that is not its number.
        model: ``cpu``, or the card's name, which measurements are kept by.
        precision: What ``trainer.precision=auto`` is on it.
        capability: Compute capability of one of NVIDIA's cards; null where it is not known.
        threads: Of the worker; null leaves it to torch.
        memory: Bytes that packs on it may take; null where it was not asked.
        most: Bytes that its worker may take at all, with what is left alone of ``memory``; null as there.
        lock: What sweeps of this machine take turns on it by, the same for every slot of a device; null where whoever
            lends the device keeps sweeps apart already, as a cluster's own queue does.
        about: For people: what it is and what is free.
    """

    name: str
    device: str
    visible: str | None = None
    model: str = "cpu"
    precision: Precision = "32-true"
    capability: tuple[int, ...] | None = None
    threads: int | None = None
    memory: int | None = None
    most: int | None = None
    lock: str | None = None
    about: str = ""

    @property
    def own(self) -> OwnDevice:
        """What its worker is told of it."""
        return OwnDevice(kind="cpu" if self.device == "cpu" else "cuda", memory=self.most)


class Worker(Protocol):
    """A worker process on a slot. Nothing here raises because the worker is gone; :attr:`code` tells."""

    @property
    def pid(self) -> int:
        """What the journal names it by."""

    @property
    def code(self) -> int | None:
        """Its exit status, negative for a signal's number, or null while it runs."""

    @property
    def starting(self) -> bool:
        """Whether it waits for its machine yet. Nothing is sent to it before, and its time to tell begins then."""

    @property
    def log(self) -> Path:
        """Where its standard output goes."""

    def run(self, pack: PackCommand) -> None:
        """Send it a pack."""

    def join(self, jobs: JoinCommand) -> None:
        """Send more jobs to the pack under way; a pack that is over makes them the next."""

    def events(self) -> list[Event]:
        """What it said of the pack since the last call, in order; the sweep's spool holds the same."""

    def stop(self, job: int | None = None) -> None:
        """Ask for a checkpoint and an end within seconds: of one job, or of the worker with all it has."""

    def prune(self, job: int) -> None:
        """Ask for an end of one job within seconds, PRUNED."""

    def kill(self) -> None:
        """End it and its children at once."""

    def leave(self, patience_s: float) -> int:
        """Let it go when idle, kill it after ``patience_s``, wait until it is gone; its exit status."""

    def last_words(self) -> str:
        """The end of what it wrote to its log."""

    def death(self) -> str:
        """How it ended, in words that begin with :data:`WORKER_LOST`."""


class Engine(Protocol):
    """Workers on one kind of machine.

    Attributes:
        left_out: A line for each device that is there and of which the last :meth:`slots` made none, with why.
    """

    left_out: tuple[str, ...]

    def slots(self, accelerator: str, each: int | None = None) -> list[Slot]:
        """Where packs can train, at least one.

        Args:
            accelerator: ``trainer.accelerator``: ``auto``, ``cpu`` or ``gpu``.
            each: Workers a device; null is what the settings say, or one.

        Raises:
            SweepError: When what was asked for is not there, with what is.
        """

    def start(self, slot: Slot, sweep_dir: Path, cwd: Path, inherit: Sequence[int] = ()) -> Worker:
        """Start a worker that sees its slot's device alone.

        It returns at once, with a worker that is :attr:`Worker.starting` as long as a queue takes. One that waits here
        all the same holds nobody up (:mod:`lora_foundry.launch.machines.starting`); how long is its own affair.

        Args:
            slot: One of :meth:`slots`.
            sweep_dir: The sweep's folder.
            cwd: Folder that relative paths of the configuration start from.
            inherit: Descriptors that the worker, or whatever of this machine waits for it, keeps open while it lives:
                the locks on the sweep and on its device, which so outlive a launcher that was killed.

        Raises:
            OSError: When it cannot be started.
        """


WORKER_LOST = "the worker"
"""What the error of a job begins with whose worker died."""
