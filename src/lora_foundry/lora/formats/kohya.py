"""Kohya's format: what the web UI, ComfyUI and diffusers all read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from lora_foundry.config.files import write_atomic
from lora_foundry.lora.formats.adapter import COMPONENTS, Adapter, ExportError, LoraWeights, listing
from lora_foundry.lora.formats.container import alpha_tensor, cast, pack
from lora_foundry.lora.formats.metadata import kohya_header
from lora_foundry.lora.formats.names import flat, unwritable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from lora_foundry.lora.formats.metadata import FileMetadata

_TOGETHER = ("q_proj", "k_proj", "v_proj", "out_proj")


def write_kohya(path: Path, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> None:
    """Write ``<name>.safetensors`` atomically; ``<name>`` becomes the web UI's alias.

    The file holds the same update in a form that all three readers apply in full (:func:`for_readers`): alphas
    that differ between modules are evened out, SDXL's second text encoder gets its attentions whole.

    Raises:
        ExportError: When a value, a module name or the base's version would not be understood by the readers.
        OSError: When the file cannot be written; an older one at ``path`` is untouched then.
    """
    content = pack(kohya_tensors(adapter, dtype, is_sdxl=meta.is_sdxl), kohya_header(meta, adapter, path.stem))
    write_atomic(path, content)


def kohya_tensors(adapter: Adapter, dtype: torch.dtype, *, is_sdxl: bool) -> dict[str, Tensor]:
    """Keys and tensors of the file: weights in ``dtype``, alphas exact."""
    problems = [f"{c}.{name}" for c in COMPONENTS for name in unwritable(c, getattr(adapter, c))]
    if problems:
        raise ExportError(
            listing("Modules that the image readers do not know; leave them out of the targets", problems)
        )
    if adapter.text_encoder_2 and not is_sdxl:
        raise ExportError(
            "text_encoder_2 is SDXL's, but the base's version does not begin with sdxl_; set model.version"
        )
    if not any(True for _ in adapter.modules()):
        raise ExportError("The adapter has no modules; give lora.target_modules that the base has")
    prefixes = {
        "unet": "lora_unet_",
        "text_encoder": "lora_te1_" if is_sdxl else "lora_te_",
        "text_encoder_2": "lora_te2_",
    }
    weights: dict[str, Tensor] = {}
    alphas: dict[str, Tensor] = {}
    for component, name, module in for_readers(adapter).modules():
        key = prefixes[component] + flat(name)
        weights |= {f"{key}.lora_down.weight": module.down, f"{key}.lora_up.weight": module.up}
        alphas[f"{key}.alpha"] = alpha_tensor(module.alpha, dtype)
        if module.dora_scale is not None:
            weights[f"{key}.dora_scale"] = module.dora_scale
    return {**cast(weights, dtype), **alphas}


def for_readers(adapter: Adapter) -> Adapter:
    """The same update in the form that all three readers apply in full: whole attentions, one alpha a component."""
    whole = _with_whole_attention(adapter.text_encoder_2)
    return Adapter(_with_one_alpha(adapter.unet), _with_one_alpha(adapter.text_encoder), _with_one_alpha(whole))


def _with_whole_attention(modules: Mapping[str, LoraWeights]) -> dict[str, LoraWeights]:
    # The web UI applies q, k, v and out of SDXL's second text encoder together or not at all.
    whole = dict(modules)
    for name, present in modules.items():
        stem, _, leaf = name.rpartition(".")
        if leaf in _TOGETHER:
            zero = LoraWeights(torch.zeros_like(present.down), torch.zeros_like(present.up), present.alpha)
            for other in _TOGETHER:
                whole.setdefault(f"{stem}.{other}", zero)
    return whole


def _with_one_alpha(modules: Mapping[str, LoraWeights]) -> dict[str, LoraWeights]:
    # Diffusers 0.42 looks per-module alphas up under names that no attention or text encoder module has, and
    # silently takes the commonest alpha instead. What an alpha exceeds the commonest by moves into its up.
    counts = Counter(weights.alpha for weights in modules.values())
    if len(counts) < 2 or not all(counts):
        return dict(modules)
    common = counts.most_common(1)[0][0]
    return {
        name: weights
        if weights.alpha == common
        else replace(weights, up=weights.up.to(torch.float32) * (weights.alpha / common), alpha=common)
        for name, weights in modules.items()
    }
