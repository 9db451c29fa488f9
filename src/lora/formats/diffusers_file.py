"""Diffusers' format: PEFT's keys, with the LoRA configuration in the header so that alpha survives."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from src.config.files import write_atomic
from src.lora.formats.adapter import (
    COMPONENTS,
    Adapter,
    AdapterFileError,
    ExportError,
    LoraWeights,
    canonical_text_name,
)
from src.lora.formats.container import cast, pack
from src.lora.formats.metadata import modelspec
from src.lora.formats.parts import assemble

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor

    from src.lora.formats.metadata import FileMetadata

HEADER_KEY = "lora_adapter_metadata"
PREFIXES = {f"{component}.": component for component in COMPONENTS}
# PEFT's spelling, then the two older ones that diffusers' own scripts still write.
_PARTS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_magnitude_vector": "dora_scale",
    ".lora_magnitude_vector.weight": "dora_scale",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
}


def write_diffusers(path: Path, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> None:
    """Write ``<name>.diffusers.safetensors`` atomically, for ``pipe.load_lora_weights`` and PEFT.

    Raises:
        ExportError: When a value is not finite in ``dtype``, or the base's version is unknown.
        OSError: When the file cannot be written; an older one at ``path`` is untouched then.
    """
    header = {"format": "pt", **modelspec(meta, path.stem.removesuffix(".diffusers"))}
    header[HEADER_KEY] = json.dumps(lora_configs(adapter), indent=2, sort_keys=True)
    write_atomic(path, pack(cast(_tensors(adapter), dtype), header))


def _tensors(adapter: Adapter) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for component, name, weights in adapter.modules():
        key = f"{component}.{name}"
        tensors |= {f"{key}.lora_A.weight": weights.down, f"{key}.lora_B.weight": weights.up}
        if weights.dora_scale is not None:
            linear = weights.dora_scale.ndim == 2
            magnitude = weights.dora_scale.flatten() if linear else weights.dora_scale.transpose(0, 1)
            # PEFT itself leaves .weight out and accepts both; transformers' loader of text encoders insists on it.
            tensors[f"{key}.lora_magnitude_vector.weight"] = magnitude
    if not tensors:
        raise ExportError("The adapter has no modules; give lora.target_modules that the base has")
    return tensors


def lora_configs(adapter: Adapter) -> dict[str, Any]:
    """PEFT's LoraConfig of each component, its fields prefixed with the component's name.

    Patterns leave ``text_model.`` out: PEFT anchors them at a dot, so they fit a text encoder that has that
    level as well as one that transformers 5.6 flattened.
    """
    configs: dict[str, Any] = {}
    for component in COMPONENTS:
        modules: Mapping[str, LoraWeights] = getattr(adapter, component)
        if not modules:
            continue
        rank = Counter(w.rank for w in modules.values()).most_common(1)[0][0]
        alpha = Counter(w.alpha for w in modules.values()).most_common(1)[0][0]
        names = {name: name.removeprefix("text_model.") for name in modules}
        fields = {
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {_anchored(component, names[n]): w.rank for n, w in modules.items() if w.rank != rank},
            "alpha_pattern": {_anchored(component, names[n]): w.alpha for n, w in modules.items() if w.alpha != alpha},
            "target_modules": sorted(names.values()),
            "use_dora": any(w.dora_scale is not None for w in modules.values()),
            "use_rslora": False,
            "bias": "none",
        }
        configs |= {f"{component}.{field}": value for field, value in fields.items()}
    return configs


def _anchored(component: str, name: str) -> str:
    # PEFT reads a pattern as a regular expression behind an optional "anything."; ^ keeps conv_in from others' ends.
    return f"^{re.escape(name)}" if component == "unet" else re.escape(name)


def parse_diffusers(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], module_names: Collection[str] | None
) -> Adapter:
    """The adapter in a diffusers file; without a configuration in the header every scale is 1.

    Raises:
        AdapterFileError: Listing keys that name no known module, incomplete modules, or an unreadable header.
    """
    configs = _configs(path, metadata)
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    problems: list[str] = []
    for key, tensor in tensors.items():
        prefix = next((p for p in PREFIXES if key.startswith(p)), None)
        suffix = next((s for s in _PARTS if key.endswith(s)), None)
        if prefix is None or suffix is None:
            problems.append(f"{key}: not a key of diffusers' LoRA format")
            continue
        component, raw = PREFIXES[prefix], key.removeprefix(prefix).removesuffix(suffix)
        name = raw if component == "unet" else canonical_text_name(raw)
        if component == "unet" and module_names is not None and name not in module_names:
            problems.append(f"{key}: the base has no such module")
            continue
        part = parts.setdefault((component, name), {})
        if part.setdefault(_PARTS[suffix], tensor) is not tensor:
            problems.append(f"{key}: given twice, under two spellings")
    for (component, name), part in parts.items():
        _complete(part, configs.get(component), name)
    return assemble(path, parts, problems)


def _complete(part: dict[str, Tensor], config: Mapping[str, Any] | None, name: str) -> None:
    down = part.get("down")
    if down is None or not down.ndim:
        return
    if config is not None:
        part["alpha"] = torch.tensor(_alpha(config, name, down.shape[0]), dtype=torch.float64)
    magnitude = part.get("dora_scale")
    if magnitude is not None:
        part["dora_scale"] = magnitude.reshape(-1, *([1] * (down.ndim - 1)))


def _alpha(config: Mapping[str, Any], name: str, rank: int) -> float:
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    alpha = float(config.get("lora_alpha", rank))
    for spelling in (name, name.removeprefix("text_model.")):
        found = next((p for p in patterns if re.match(rf"(.*\.)?({p})$", spelling)), None)
        if found is not None:
            alpha = float(patterns[found])
            break
    return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def _configs(path: Path, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    configs: dict[str, dict[str, Any]] = {}
    try:
        fields = json.loads(metadata.get(HEADER_KEY, "{}"))
    except json.JSONDecodeError as error:
        raise AdapterFileError(f"{path}: {HEADER_KEY} in the header is not JSON ({error}); export it again") from error
    if not isinstance(fields, dict):
        raise AdapterFileError(f"{path}: {HEADER_KEY} in the header is a {type(fields).__name__}, allowed is an object")
    for key, value in fields.items():
        component, _, field = key.partition(".")
        configs.setdefault(component, {})[field] = value
    return configs
