"""What a job computes beside its steps, to be scored and to draw: when that is, and how much it is of its steps' work.

Work is counted in forward passes of one row. By itself (``every: auto``) a job trains twelve samples for each row that
it is scored or drawn with, whatever its batch, so that both together stay under a tenth of its steps' work, at the
default length with the end, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from lora_foundry.config.schema import DataConfig, JobConfig, TrainerConfig
from lora_foundry.config.schema_results import ValidationConfig

AUTO: Final = "auto"
DRAWN_BY_DEFAULT = 4
"""Prompts, where nobody names any."""
STEP_FORWARDS = 2.1
"""Floating-point operations of a row's step over those of its forward pass: a frozen base needs no gradients of its
weights. Counted with ``torch.utils.flop_counter``: 2.15 for Stable Diffusion 1.5 at 512 px with adapters of rank 8 on
attention and feed-forward layers, 2.12 for the embedded base. Small batches wait for the device, or leave cores idle:
in time the same ratio was 8.6, 5.9, 4.1 and 3.0 for the embedded base at 1, 2, 4 and 8 rows on a CPU."""
_SAMPLES_A_ROW = 12

Every = int | Literal["auto"] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Besides:
    """Forward passes of one row that a training computes beside its steps, and those that its steps are worth.

    The base's own scores and pictures, with which every curve begins, are not in it: they are made once for a base and
    its data, and kept. Nor is what drift is measured from: the base predicts those rows once a pack.
    """

    scoring: float
    drawing: float
    steps: float


def rows_scored(config: JobConfig) -> int:
    """Rows of one validation, with as many held-out images as there may be, and those that drift is measured on."""
    return _rows_scored(config.validation)


def samples_between(validation: ValidationConfig, trainer: TrainerConfig, data: DataConfig) -> int | None:
    """Samples from one validation to the next; None where nothing is scored on the way."""
    batch = data.batch_size * trainer.accumulate
    steps = _between(_Rhythm(validation.every, _rows_scored(validation)), batch)
    known = [one for one in (steps, trainer.save_every) if one is not None]
    return min(known) * batch if known else None


def rows_drawn(config: JobConfig) -> int:
    """Rows of all forward passes of one drawing; the base's own pictures (scale 0) are drawn once and kept."""
    sample = config.sample
    if not sample.enabled:
        return 0
    pictures = (len(sample.prompts) or len(config.data.prompts) or DRAWN_BY_DEFAULT) * len(sample.seeds)
    guided = 2 if sample.guidance != 1 else 1
    return pictures * sum(scale > 0 for scale in sample.scales) * sample.steps * guided


def samples_of(config: JobConfig, steps: int) -> int:
    """Samples that a job sees in so many optimizer steps."""
    return steps * _samples(config)


def is_scored(config: JobConfig, step: int, total: int) -> bool:
    """Whether a job of ``total`` optimizer steps is scored after ``step`` of them: when due, and with each export."""
    save = config.trainer.save_every
    return (save is not None and step % save == 0) or _is_due(config, _scoring(config), step, total)


def is_drawn(config: JobConfig, step: int, total: int) -> bool:
    """Whether a job of ``total`` optimizer steps draws after ``step`` of them."""
    return _is_due(config, _drawing(config), step, total)


def besides(config: JobConfig, total: int) -> Besides:
    """What a job of ``total`` optimizer steps computes beside them."""
    scored, drawn = _steps_of(config, _scoring(config), total), _steps_of(config, _drawing(config), total)
    if (save := config.trainer.save_every) is not None:
        scored |= set(range(save, total, save))
    return Besides(
        scoring=float(len(scored) * rows_scored(config) + config.validation.check_images * config.validation.timesteps),
        drawing=float(len(drawn) * rows_drawn(config)),
        steps=total * _samples(config) * STEP_FORWARDS,
    )


def in_all(parts: Iterable[Besides]) -> Besides:
    """Of several jobs together."""
    listed = list(parts)
    return Besides(
        scoring=sum(part.scoring for part in listed),
        drawing=sum(part.drawing for part in listed),
        steps=sum(part.steps for part in listed),
    )


@dataclass(frozen=True, slots=True)
class _Rhythm:
    every: Every
    rows: int


def _scoring(config: JobConfig) -> _Rhythm:
    return _Rhythm(config.validation.every, rows_scored(config))


def _drawing(config: JobConfig) -> _Rhythm:
    return _Rhythm(config.sample.every, rows_drawn(config))


def _rows_scored(validation: ValidationConfig) -> int:
    return validation.timesteps * (validation.max_images + len(validation.drift_prompts))


def _samples(config: JobConfig) -> int:
    return config.data.batch_size * config.trainer.accumulate


def _between(rhythm: _Rhythm, samples: int) -> int | None:
    """Optimizer steps, of so many samples each."""
    if rhythm.every != AUTO:
        return rhythm.every
    return math.ceil(_SAMPLES_A_ROW * rhythm.rows / samples) or None


def _is_due(config: JobConfig, rhythm: _Rhythm, step: int, total: int) -> bool:
    between = _between(rhythm, _samples(config))
    if step >= total:
        return True
    return between is not None and step % between == 0 and not _is_late(rhythm, between, step, total)


def _is_late(rhythm: _Rhythm, between: int, step: int, total: int) -> bool:
    """The end comes so soon that its own will tell as much; what was asked for in steps is done as asked."""
    return rhythm.every == AUTO and 2 * (total - step) < between


def _steps_of(config: JobConfig, rhythm: _Rhythm, total: int) -> set[int]:
    between = _between(rhythm, _samples(config))
    if between is None:
        return {total}
    return {total, *(step for step in range(between, total, between) if not _is_late(rhythm, between, step, total))}
