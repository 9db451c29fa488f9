"""``length.json`` in a job's folder: how long it trains, where that was changed after it had begun.

The stored configuration stays as it was asked for first. Here stands every length that the job was to have, each with
the steps that had been taken then; the last one holds. All else stays, so a checkpoint of any of them goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora_foundry.config.digest import config_digest
from lora_foundry.config.files import write_json
from lora_foundry.config.schema import JobConfig
from lora_foundry.config.stored import Shape, StoredError, has, is_number, is_whole, list_of, or_null, read_json

FILE = "length.json"
KEYS = ("trainer.max_steps", "trainer.epochs")
"""What may be said beside ``resume=``."""
_FORMAT = 1
_FIELDS: dict[str, Shape] = {"max_steps": or_null(is_whole), "epochs": or_null(is_number), "after": is_whole}


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """How long a job trains from then on.

    Attributes:
        max_steps: Optimizer steps.
        epochs: Passes over the images; where given it decides.
        after: Optimizer steps that had been taken.
    """

    max_steps: int | None
    epochs: float | None
    after: int

    def of(self, config: JobConfig) -> JobConfig:
        """``config`` at this length."""
        return replace(config, trainer=replace(config.trainer, max_steps=self.max_steps, epochs=self.epochs))


def read_lengths(job_dir: Path) -> tuple[Length, ...]:
    """The lengths that it was to have, in order; empty where the first one holds.

    Raises:
        StoredError: When they cannot be read.
    """
    path = job_dir / FILE
    if not path.exists():
        return ()
    told = read_json(path)
    shape = {"lengths": list_of(lambda one: has(one, _FIELDS))}
    if not has(told, shape) or told.get("format") != _FORMAT or not told["lengths"]:
        raise StoredError(f"{path} holds something that is no list of lengths")
    return tuple(Length(**{name: one.get(name) for name in _FIELDS}) for one in told["lengths"])


def write_length(job_dir: Path, length: Length, before: JobConfig) -> None:
    """Let the job in ``job_dir`` train so long.

    Args:
        job_dir: Its folder.
        length: From now on.
        before: Its configuration so far.

    Raises:
        OSError: When it cannot be written.
        StoredError: When what stands there cannot be read.
    """
    first = Length(max_steps=before.trainer.max_steps, epochs=before.trainer.epochs, after=0)
    lengths = [*(read_lengths(job_dir) or (first,)), length]
    write_json(job_dir / FILE, {"format": _FORMAT, "lengths": [dataclasses.asdict(one) for one in lengths]})


def words_of(lengths: Sequence[Length]) -> str:
    """``400 steps, then 800 steps from step 400 on``."""
    told = [f"{one.max_steps} steps" if one.epochs is None else f"{one.epochs:g} epochs" for one in lengths]
    later = [f"{text} from step {one.after} on" for text, one in zip(told[1:], lengths[1:], strict=True)]
    return ", then ".join([*told[:1], *later])


def at_length(config: JobConfig, lengths: Sequence[Length]) -> JobConfig:
    """A stored configuration with the last of ``lengths``."""
    return lengths[-1].of(config) if lengths else config


def digests_of(config: JobConfig, lengths: Sequence[Length]) -> frozenset[str]:
    """Of a job as it is, and at every length that it was to have."""
    return frozenset(config_digest(one) for one in (config, *(length.of(config) for length in lengths)))
