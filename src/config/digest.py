"""One number for everything of a configuration that decides the adapter."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from src.config.schema import JobConfig

_ELSEWHERE = ("tracking", "sample", "memory", "resume", "name")
_ON_THE_WAY = (
    *("log_every", "save_every", "checkpoint_every", "checkpoint_s"),
    *("accelerator", "gradient_checkpointing"),
)


def config_digest(config: JobConfig) -> str:
    """sha256, hexadecimal; what only tells where or when to log may differ between equal digests."""
    values: dict[str, Any] = dataclasses.asdict(config)
    for group in _ELSEWHERE:
        values.pop(group)
    for key in _ON_THE_WAY:
        values["trainer"].pop(key)
    values["data"].pop("cache_dir")
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
