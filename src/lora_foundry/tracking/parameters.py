"""A configuration as MLflow's flat parameters."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from lora_foundry.config.schema import JobConfig
from lora_foundry.tracking.addresses import shown

LONGEST_VALUE = 6000
"""Characters of a parameter's value that MLflow's stores accept (3.17)."""


def flatten(config: JobConfig, name: str) -> dict[str, str]:
    """Every value of ``config`` under its dotted name, as text the way YAML writes it.

    ``name`` takes the place of ``config.name``, which is null when the name was derived. How a job was
    resumed is not part of what it is, so ``resume`` is left out: parameters of a run cannot change.
    """
    values = _walk("", asdict(config))
    values["name"] = name
    values.pop("resume", None)
    values["tracking.uri"] = shown(values["tracking.uri"])
    return values


def _walk(prefix: str, node: dict[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(_walk(f"{path}.", value))
        else:
            flat[path] = _text(value)[:LONGEST_VALUE]
    return flat


def _text(value: Any) -> str:  # noqa: ANN401 - any leaf of a configuration
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
