"""Diffusers' format: PEFT's keys, scaled so that a reader needs nothing from the header."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_foundry.config.files import write_atomic
from lora_foundry.lora.formats.adapter import COMPONENTS, Adapter, ExportError, LoraWeights
from lora_foundry.lora.formats.container import cast, pack
from lora_foundry.lora.formats.metadata import modelspec
from lora_foundry.lora.formats.peft_config import HEADER_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from lora_foundry.lora.formats.metadata import FileMetadata


def write_diffusers(path: Path, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> None:
    """Write the file for ``pipe.load_lora_weights`` and PEFT, atomically.

    Raises:
        ExportError: When a value is not finite in ``dtype``, or the base's version is unknown.
        OSError: When the file cannot be written; an older one at ``path`` is untouched then.
    """
    written = folded(adapter)
    header = {"format": "pt", **modelspec(meta, path.stem)}
    header[HEADER_KEY] = json.dumps(lora_configs(written), indent=2, sort_keys=True)
    write_atomic(path, pack(cast(_tensors(written), dtype), header))


def folded(adapter: Adapter) -> Adapter:
    """The same update with each scale in its up and an alpha equal to the rank.

    A reader that passes the header over takes alpha for the rank; one that heeds it multiplies by 1.
    """
    return Adapter(*({name: _folded(weights) for name, weights in getattr(adapter, c).items()} for c in COMPONENTS))


def _folded(weights: LoraWeights) -> LoraWeights:
    if weights.scale == 1.0:
        return weights
    return replace(weights, up=weights.up.double() * weights.scale, alpha=float(weights.rank))


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
