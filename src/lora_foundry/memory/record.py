"""What predictions were off by: noted by workers, and what later predictions are corrected with."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lora_foundry.memory.attention import attention_of
from lora_foundry.memory.between import are_known, pictures_of, waits
from lora_foundry.memory.libraries import CPU, on_card
from lora_foundry.memory.predict import curve_of, is_known
from lora_foundry.wire.fields import Form, Loose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_foundry.config import JobConfig

_FILE = "errors.jsonl"
_LAST = 21  # records that a correction is taken from
_LEAST = 3  # below that nothing is corrected
_FORMAT = 4  # raised where what is predicted, or what is held against it, becomes another thing


@dataclass(frozen=True, kw_only=True, slots=True)
class NotedError:
    """A line of the file: what a pack's steps took beside what was predicted for one.

    Attributes:
        t: When it was noted (Unix seconds).
        base: Name of the base.
        device: Name of the device.
        predicted: Bytes.
        measured: Bytes.
        format: What the two numbers are; null: measured was all that a pack did, drawing and validation too.
    """

    t: float
    base: str
    device: str
    predicted: int
    measured: int
    format: Loose[int] = None


class Correction(NamedTuple):
    """What earlier runs tell.

    Attributes:
        factor: Measured over predicted, the median of the last runs; 1 below three.
        runs: Of how many.
        older: Records that are not learned from: what they measured was predicted by nobody.
    """

    factor: float
    runs: int
    older: int


_FORM = Form(NotedError)


def note_error(  # what is known of a run
    configs: Sequence[JobConfig],
    rows: int,
    *,
    measured: int,
    beside: int,
    device: str,
    cpu_threads: int | None = None,
    capability: tuple[int, ...] | None = None,
) -> int | None:
    """Record what a pack's steps really took beside what was predicted for one.

    Args:
        configs: Of its members.
        rows: Of its largest forward.
        measured: Bytes at the peak of its steps: what is done between them was not predicted with them.
        beside: Bytes of it that were there before; where there are any, the base's weights are among them.
        device: Name of the device.
        cpu_threads: Of torch where that is a CPU; null for a card.
        capability: Compute capability of the card, where it is one of NVIDIA's.

    Returns:
        The predicted bytes at the peak, or None where nothing was predicted for this kind of step.
    """
    largest = max(configs, key=lambda config: config.lora.rank)
    card = cpu_threads is None
    attention = attention_of(largest.trainer.precision, card=card, capability=capability)
    waiting = 0 if card else _waiting(configs)
    if waiting is None or not is_known(largest, attention):
        return None
    optimizers = [config.optimizer for config in configs]
    needs = curve_of(largest, attention).needs(rows, optimizers, on_card() if card else CPU, cpu_threads=cpu_threads)
    predicted = needs.allocated + waiting - (needs.weights if beside else 0)
    noted = NotedError(
        t=time.time(),
        base=largest.model.name,
        device=device,
        predicted=predicted,
        measured=measured - beside,
        format=_FORMAT,
    )
    with _path(largest).open("a") as file:
        file.write(json.dumps(_FORM.written(noted)) + "\n")
    return predicted + beside


def correction(config: JobConfig, device: str) -> Correction:
    """What the last runs of ``config``'s base on ``device`` tell.

    A small base's share of what no tensor shows is no measure for a large one.
    """
    ratios, older = [], 0
    path = _path(config)
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            told = json.loads(line)
        except ValueError:
            continue  # torn by a kill
        noted = _FORM.read(told) if isinstance(told, dict) else None
        if noted is None or (noted.base, noted.device) != (config.model.name, device) or noted.predicted <= 0:
            continue
        if noted.format == _FORMAT:
            ratios.append(noted.measured / noted.predicted)
        else:
            older += 1
    ratios = ratios[-_LAST:]
    factor = statistics.median(ratios) if len(ratios) >= _LEAST else 1.0
    return Correction(factor=factor, runs=len(ratios), older=older)


def _waiting(configs: Sequence[JobConfig]) -> int | None:
    """Bytes of what decodes pictures, which waits beside a CPU's steps; None where it was not predicted."""
    drawing = [config for config in configs if config.sample.enabled]
    if not drawing:
        return 0
    return waits(pictures_of(drawing[0]), drawing, on_cpu=True) if are_known(drawing[0]) else None


def _path(config: JobConfig) -> Path:
    return Path(config.data.cache_dir) / "memory" / _FILE
