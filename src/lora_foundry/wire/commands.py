"""What a worker is told: commands, a line each on its standard input. The end of it is a stop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from lora_foundry.wire.forks import Donor
from lora_foundry.wire.lines import Kinds, Line, Loose


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedJob:
    """One job of a pack.

    Attributes:
        job: Number in the sweep.
        dir: Its folder; the configuration lies in ``.hydra/config.yaml`` there.
        name: Its adapter's name.
        resume: Whether it continues from its newest checkpoint.
        donor: The job that it begins from where it does not; null begins anew.
    """

    job: int
    dir: Path
    name: str
    resume: bool
    donor: Loose[Donor] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnDevice:
    """The device that a worker has; it trains on no other.

    Attributes:
        kind: ``cpu``, or ``cuda`` for the one card that it sees, NVIDIA's or AMD's.
        memory: Bytes of the card that the process may take, everything in it included; null where nobody knows.
    """

    kind: Literal["cpu", "cuda"]
    memory: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Command(Line):
    """What a worker is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackCommand(Command):
    """Train these jobs together.

    Attributes:
        pack: The pack's name.
        spool: Where its events go.
        device: The worker's own, where they train.
        least_gain: The gain below which they are not worth training together, to be found out; null: no question.
        jobs: Its jobs.
    """

    tag: ClassVar[str] = "pack"
    pack: str
    spool: Path
    device: OwnDevice
    least_gain: float | None
    jobs: tuple[PackedJob, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinCommand(PackCommand):
    """Let these jobs into the pack under way; a pack that is over makes them the next.

    Attributes:
        pack: The pack's name.
        spool: Where its events go.
        device: As in ``pack``.
        least_gain: As in ``pack``, of all of them together.
        jobs: Those that join.
    """

    tag: ClassVar[str] = "join"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopCommand(Command):
    """End after the step under way, with a checkpoint."""

    tag: ClassVar[str] = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopJobCommand(Command):
    """End one job after the step under way, whatever becomes of the others.

    Attributes:
        job: Its number.
    """

    tag: ClassVar[str] = "stop_job"
    job: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneJobCommand(Command):
    """End one job after the step under way, since going on with it is not worth its place; it is PRUNED.

    Attributes:
        job: Its number.
    """

    tag: ClassVar[str] = "prune_job"
    job: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitCommand(Command):
    """End when the packs that were sent before are done."""

    tag: ClassVar[str] = "exit"


COMMANDS: Kinds[Command] = Kinds(
    "cmd", (PackCommand, JoinCommand, StopCommand, StopJobCommand, PruneJobCommand, ExitCommand)
)
