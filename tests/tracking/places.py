"""Where tests record runs."""

from __future__ import annotations

from typing import Any

from lora_foundry.config.schema import RegistryConfig, TrackingConfig


def place(**given: Any) -> TrackingConfig:  # values of the schema
    """A ``tracking`` group: what is not given is left to the sweep, and nothing is registered."""
    told: dict[str, Any] = {"enabled": True, "uri": None, "run_name": None, "registry": RegistryConfig(name=None)}
    return TrackingConfig(**{**told, "flush_s": 0.1, **given})
