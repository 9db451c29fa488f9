"""PEFT's configuration of an adapter: in a file's header, or beside it in a folder. Needs no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_foundry.lora.formats.adapter import AdapterFileError

HEADER_KEY = "lora_adapter_metadata"
CONFIG_FILE = "adapter_config.json"
_REWRITING = ("pissa", "olora", "corda", "loftq", "eva", "lora_ga")
_OTHERS = ("use_qalora", "lora_bias", "trainable_token_indices", "modules_to_save", "megatron_config")


def configs_in(path: Path, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The configuration of each component that a file's header has; empty when it has none.

    Raises:
        AdapterFileError: When it is unreadable.
    """
    configs: dict[str, dict[str, Any]] = {}
    for key, value in _parsed(metadata.get(HEADER_KEY, "{}"), f"{path}: {HEADER_KEY} in the header").items():
        component, _, field = key.partition(".")
        configs.setdefault(component, {})[field] = value
    return configs


def config_beside(folder: Path) -> dict[str, Any]:
    """A PEFT folder's configuration.

    Raises:
        AdapterFileError: When it is missing or unreadable.
    """
    path = folder / CONFIG_FILE
    try:
        return _parsed(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterFileError(f"{path}: cannot be read ({error}); alpha stands there, copy it as well") from error


def config_problems(config: Mapping[str, Any]) -> list[str]:
    """What of a configuration means another adapter than plain LoRA on the base as it is."""
    problems = []
    kind = config.get("peft_type")
    if kind not in (None, "LORA"):
        problems.append(f"its configuration says peft_type={kind}, allowed is LORA")
    init = str(config.get("init_lora_weights", True)).lower()
    if init.startswith(_REWRITING):
        problems.append(
            f"it was begun with init_lora_weights={init}, which rewrites the base; convert it to plain LoRA"
        )
    if config.get("bias") not in (None, "none"):
        problems.append(f"its configuration says bias={config['bias']}, allowed is none")
    problems.extend(f"its configuration says {key}, allowed is plain LoRA" for key in _OTHERS if config.get(key))
    return problems


def alpha_of(config: Mapping[str, Any], name: str, rank: int) -> float:
    """The alpha that PEFT applies to a module, rsLoRA folded in."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    alpha = float(config.get("lora_alpha", rank))
    for spelling in (name, name.removeprefix("text_model.")):
        found = next((p for p in patterns if re.match(rf"(.*\.)?({p})$", spelling)), None)
        if found is not None:
            alpha = float(patterns[found])
            break
    return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise AdapterFileError(f"{where} is not JSON ({error}); export it again") from error
    if not isinstance(fields, dict):
        raise AdapterFileError(f"{where} is a {type(fields).__name__}, allowed is an object")
    return fields
