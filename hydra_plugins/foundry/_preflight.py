"""Looks at what jobs name, as the rooms see it that the launch room does not import. None of them imports torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from src.launch.preflight import Look, Looks

if TYPE_CHECKING:
    from src.config.schema import JobConfig

_FILE_BYTES = 2  # of a number: adapters are written in fp16


def _listed(config: JobConfig) -> Hashable:
    """What decides how a data set is listed; how its images are transformed and drawn does not."""
    return replace(
        config.data,
        name="",
        batch_size=1,
        resolution=8,
        crop="none",
        flip=False,
        background="white",
        caption_dropout=0.0,
    )


def _data_problems(config: JobConfig, start: Path) -> Sequence[str]:
    from src.data.listing import list_data  # noqa: PLC0415 - imported at every start of Hydra: late

    return list_data(config.data, start).refused


def _base_problems(config: JobConfig, start: Path) -> list[str]:
    from src.models.opening import file_problems  # noqa: PLC0415 - imported at every start of Hydra: late

    return file_problems(config.model, start)


def _adapter_problems(config: JobConfig, start: Path) -> list[str]:
    if config.lora.init_from is None:
        return []
    from src.config.paths import locate  # noqa: PLC0415 - imported at every start of Hydra: late
    from src.models.header import read_header  # noqa: PLC0415 - imported at every start of Hydra: late
    from src.models.protocol import BaseError  # noqa: PLC0415 - imported at every start of Hydra: late

    file = locate(config.lora.init_from, start)
    if not file.exists():
        return [f"lora.init_from: got {config.lora.init_from!r}, where there is nothing ({file.absolute()})"]
    try:
        if file.is_file():
            read_header(file)
    except (BaseError, OSError) as error:
        return [f"lora.init_from: {error}"]
    return []


def _adapter_bytes(config: JobConfig) -> int | None:
    from src.memory.predict import curve_of, is_known  # noqa: PLC0415 - imported at every start of Hydra: late
    from src.models.protocol import BaseError  # noqa: PLC0415 - imported at every start of Hydra: late

    try:
        return curve_of(config).floats * _FILE_BYTES if is_known(config) else None
    except (BaseError, OSError, ValueError):
        return None  # a look at the base says what is wrong with it


LOOKS = Looks(
    looks=(
        Look(decides=_listed, problems=_data_problems),
        Look(decides=lambda config: config.model, problems=_base_problems),
        Look(decides=lambda config: config.lora.init_from, problems=_adapter_problems),
    ),
    adapter_bytes=_adapter_bytes,
)
