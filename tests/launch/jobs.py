"""Configurations for tests, made without composing each."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import JobConfig


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
