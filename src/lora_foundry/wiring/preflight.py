"""Looks at what jobs name, as the rooms see it that the launch room does not import. None of them imports torch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.length import too_long_a_warmup, total_steps
from lora_foundry.config.warned import Warned
from lora_foundry.launch.points.preflight import Asked, Look, Looks

if TYPE_CHECKING:
    from lora_foundry.config.schema import JobConfig, ModelConfig

_FILE_BYTES = 2  # of a number: adapters are written in fp16


def _listed(job: Asked) -> Hashable:
    """What decides how a data set is listed; how its images are transformed and drawn does not."""
    as_listed = replace(job.config.data, name="", batch_size=1, resolution=8, caption_dropout=0.0)
    return replace(as_listed, crop="none", flip=False, background="white", fold=None, refit=False)


def _data_problems(job: Asked, start: Path) -> Sequence[str]:
    from lora_foundry.data.listing import list_data

    return list_data(job.config.data, start).refused


def _data_remarks(job: Asked, start: Path) -> Sequence[Warned]:
    from lora_foundry.data.listing import list_data

    return list_data(job.config.data, start).warnings


def _steps_decide(job: Asked) -> Hashable:
    return (
        _listed(job),
        job.config.data.fold,
        job.config.data.batch_size,
        job.config.trainer,
        job.config.scheduler,
        job.config.optimizer.lr,
    )


def _warmup_remarks(job: Asked, start: Path) -> Sequence[Warned]:
    """A warm-up against epochs, whose steps the data decide; against steps that are given it is a rule's."""
    from lora_foundry.data.listing import trained_on

    if job.config.trainer.epochs is None:
        return ()
    text = too_long_a_warmup(job.config, total_steps(job.config, trained_on(job.config.data, start)))
    return () if text is None else (Warned(topic="warmup", text=text),)


def _base_problems(job: Asked, start: Path) -> list[str]:
    from lora_foundry.models.opening import file_problems

    return file_problems(job.config.model, start)


def _adapted(job: Asked) -> Hashable:
    lora = job.config.lora
    return job.config.model, lora.target_modules, lora.init_from, lora.init_from and (lora.rank, _is_rank_given(job))


def _adapter_problems(job: Asked, start: Path) -> Sequence[str]:
    """Layers that the base does not have, and a file to begin with that does not fit."""
    from lora_foundry.config.paths import locate
    from lora_foundry.lora.init_from import Wanted, look_at
    from lora_foundry.models.targets import kinds_of, presets_of, resolve_targets

    lora, layers, kinds = job.config.lora, _layers(job.config.model, start), None
    try:
        kinds = None if layers is None else kinds_of(layers)
        targets = None if kinds is None else resolve_targets(kinds, lora.target_modules)
    except ValueError as error:
        return [str(error)]
    if lora.init_from is None or job.begun:
        return []
    wanted = Wanted(
        rank=lora.rank,
        rank_is_given=_is_rank_given(job),
        layers=layers,
        targets=targets,
        presets={} if kinds is None else presets_of(kinds),
    )
    return look_at(locate(lora.init_from, start), wanted).problems


@lru_cache(maxsize=64)
def _layers(model: ModelConfig, start: Path) -> Mapping[str, tuple[int, ...]] | None:
    from lora_foundry.models.opening import layers_of

    return layers_of(model, start)


def _is_rank_given(job: Asked) -> bool:
    from lora_foundry.config.given import is_given

    return job.words is None or is_given("lora.rank", job.config.lora.rank, job.words)


def _likeness_problems(job: Asked, start: Path) -> list[str]:
    from lora_foundry.config.paths import locate
    from lora_foundry.models.likeness import folder_problems

    folder = job.config.validation.likeness
    return [] if folder is None else folder_problems(locate(folder, start))


def _adapter_bytes(config: JobConfig) -> int | None:
    from lora_foundry.memory.predict import curve_of, is_known
    from lora_foundry.models.protocol import BaseError

    try:
        return curve_of(config).floats * _FILE_BYTES if is_known(config) else None
    except (BaseError, OSError, ValueError):
        return None  # a look at the base says what is wrong with it


LOOKS = Looks(
    looks=(
        Look(decides=_listed, problems=_data_problems, remarks=_data_remarks),
        Look(decides=_steps_decide, problems=lambda *_: (), remarks=_warmup_remarks),
        Look(decides=lambda job: job.config.model, problems=_base_problems),
        Look(decides=_adapted, problems=_adapter_problems),
        Look(decides=lambda job: job.config.validation.likeness, problems=_likeness_problems),
    ),
    adapter_bytes=_adapter_bytes,
)
