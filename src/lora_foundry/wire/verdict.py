"""``verdict.json``: which adapter of a sweep to keep, and how sure that is; the room ``judge`` finds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.files import write_json
from lora_foundry.config.stored import StoredError, is_mapping, read_json
from lora_foundry.wire.fields import Form, Loose

FILE = "verdict.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """The best over one other, in percent of the other's loss: below 0 where the best is better.

    Attributes:
        name: The other: a job's, or what a setting sets.
        percent: As measured.
        low: Lower end of the interval.
        high: Its upper end.
    """

    name: str
    percent: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Which job is best, and against what.

    Attributes:
        job: The best one's number.
        name: Its name.
        file: The adapter to keep, from the sweep's folder.
        sentence: What people are told.
        sure: Whether the best is better than each that it was compared with.
        count: How many images, or seeds, that rests on; null where nothing was compared.
        of: What the task calls its items (``images``), or ``seeds`` where settings are compared, each of which was
            trained with several.
        against: The others, the nearest first; all intervals hold at once in 95 of 100 sweeps.
    """

    job: int
    name: str
    file: str | None
    sentence: str
    sure: bool
    count: Loose[int]
    of: str
    against: tuple[Against, ...]


_FORM = Form(Verdict)


def write_verdict(sweep_dir: Path, verdict: Verdict | None) -> None:
    """Write ``verdict.json``; where there is none, one of an earlier end goes.

    Raises:
        OSError: When the folder cannot be written.
    """
    if verdict is None:
        (sweep_dir / FILE).unlink(missing_ok=True)
    else:
        write_json(sweep_dir / FILE, _FORM.written(verdict))


def read_verdict(sweep_dir: Path) -> Verdict | None:
    """What :func:`write_verdict` wrote; None where there is nothing, or something else."""
    try:
        told = read_json(sweep_dir / FILE)
    except StoredError:
        return None
    return _FORM.read(told) if is_mapping(told) else None
