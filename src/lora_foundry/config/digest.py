"""One number for everything of a configuration that decides the adapter."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from lora_foundry.config.choices import Options, given_options
from lora_foundry.config.length import known_steps, warmup_of
from lora_foundry.config.schema import JobConfig

_ELSEWHERE = ("tracking", "sample", "export", "memory", "resume", "name")
_ON_THE_WAY = (
    *("log_every", "save_every", "keep_best", "average", "checkpoint_every", "checkpoint_s"),
    *("accelerator", "gradient_checkpointing"),
)
_ELSEWHERE_IN_DATA = ("cache_dir", "prompts", "refit")
# Keys that came later, with the values that are left out, so that the digests of earlier versions stay the same: a
# default, and what a job from before has (src/lora_foundry/config/earlier.py).
_LATER: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("lora", "kind", ("lora",)),
    ("data", "captions", ("auto",)),
    ("data", "repeats", ("auto", None)),
    ("data", "follow_links", (False,)),
    ("data", "folds", (None,)),
    ("data", "fold", (None,)),
    ("data", "without", ((),)),
    ("trainer", "deterministic", (False,)),
    ("trainer", "patience", (None,)),
    ("validation", "metrics", (("loss",),)),
    ("validation", "drift_prompts", ((),)),
    ("validation", "likeness", (None,)),
    ("validation", "check_images", (0,)),
)


def config_digest(config: JobConfig) -> str:
    """sha256, hexadecimal; what only tells where or when to log may differ between equal digests."""
    values: dict[str, Any] = dataclasses.asdict(config)
    for group in _ELSEWHERE:
        values.pop(group)
    for key in _ON_THE_WAY:
        values["trainer"].pop(key)
    for key in _ELSEWHERE_IN_DATA:
        values["data"].pop(key)
    for group, key, left_out in _LATER:
        if values[group][key] in left_out:
            values[group].pop(key)
    for group, key, options in _options(config):
        values[group][key] = given_options(options)
        if not values[group][key]:
            values[group].pop(key)
    steps = known_steps(config.trainer)
    if steps is not None:  # a warm-up is the same whether it was written or left to the length
        values["scheduler"]["warmup_steps"] = warmup_of(config.scheduler, steps)
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _options(config: JobConfig) -> Iterator[tuple[str, str, Options]]:
    for group in dataclasses.fields(config):
        part = getattr(config, group.name)
        for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
            if isinstance(value := getattr(part, field.name), Options):
                yield group.name, field.name, value
