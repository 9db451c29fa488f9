"""Configurations for tests, made without composing each."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.record import StoredJob
from lora_foundry.launch.records.state import JobState
from lora_foundry.tracking.records import JobRecord


@cache
def base_job() -> JobConfig:
    return compose_job()


def job(**values: Any) -> JobConfig:
    """``job(lora__rank=4)`` is the default job with that value."""
    made = base_job()
    for key, value in values.items():
        group, _, leaf = key.rpartition("__")
        if group:
            made = dataclasses.replace(made, **{group: dataclasses.replace(getattr(made, group), **{leaf: value})})
        else:
            made = dataclasses.replace(made, **{leaf: value})
    return made


def live(
    number: int, config: JobConfig, *, name: str | None = None, folder: Path | None = None, pack: str = "pack-0"
) -> LiveJob:
    """A job that the farm has, and of which nothing was told yet."""
    name, folder = name or f"job{number}", folder or Path(str(number))
    record = JobRecord(index=number, name=name, dir=folder, config=config, overrides={}, pack=pack)
    stored = StoredJob(job=number, name=name, dir=folder.name, rank=config.lora.rank, overrides={}, pack=pack)
    return LiveJob(record=record, now=JobState.of(stored))
