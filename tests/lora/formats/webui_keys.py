"""AUTOMATIC1111's web UI as a reader: which of its modules a kohya key reaches.

It renames diffusers-style names to those of the original UNet by arithmetic on the block numbers, then looks
the result up among the modules of the loaded base. Both halves are stated here in our own words.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

_RESNET = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = ("to_q", "to_k", "to_v", "to_out_0")
_SD1 = {"depths": (1, 1, 1, 0), "middle": 1}
_SDXL = {"depths": (0, 2, 10), "middle": 10}


def reaches(module: str, base: str) -> str | None:
    """The base's module that ``module`` (a key before its first dot) is applied to; None when it is dropped."""
    renamed = _renamed(module, base)
    return renamed if renamed in modules(base) else None


def applied_text_encoder_2(keys: set[str]) -> set[str]:
    """Of SDXL's second text encoder: the modules really applied. Its q, k, v and out go together or not at all."""
    applied = {key for key in keys if "_self_attn_" not in key}
    for stem in {key.rpartition("_self_attn_")[0] for key in keys if "_self_attn_" in key}:
        quartet = {f"{stem}_self_attn_{part}_proj" for part in ("q", "k", "v", "out")}
        if quartet <= keys:
            applied |= quartet
    return applied


def _renamed(module: str, base: str) -> str | None:
    if module.startswith("lora_te"):
        return _renamed_text(module, base)
    name = module.removeprefix("lora_unet_")
    fixed = {"conv_in": "input_blocks_0_0", "conv_out": "out_2"}
    fixed |= {"time_embedding_linear_1": "time_embed_0", "time_embedding_linear_2": "time_embed_2"}
    if name in fixed:
        return fixed[name]
    if found := re.fullmatch(r"(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", name):
        way, block, kind, layer, rest = found.groups()
        number = 3 * int(block) + int(layer) + (1 if way == "down" else 0)
        side = "input" if way == "down" else "output"
        return f"{side}_blocks_{number}_{int(kind == 'attentions')}_{_inner(kind, rest)}"
    if found := re.fullmatch(r"mid_block_(attentions|resnets)_(\d+)_(.+)", name):
        kind, layer, rest = found.groups()
        return f"middle_block_{1 if kind == 'attentions' else 2 * int(layer)}_{_inner(kind, rest)}"
    return _renamed_sampler(name)


def _renamed_sampler(name: str) -> str | None:
    if found := re.fullmatch(r"down_blocks_(\d+)_downsamplers_0_conv", name):
        return f"input_blocks_{3 * int(found[1]) + 3}_0_op"
    if found := re.fullmatch(r"up_blocks_(\d+)_upsamplers_0_conv", name):
        block = int(found[1])  # it takes SD 1's first up block, without attention, for granted
        return f"output_blocks_{3 * block + 2}_{2 if block else 1}_conv"
    return None


def _inner(kind: str, rest: str) -> str:
    return _RESNET.get(rest, rest) if kind == "resnets" else rest


def _renamed_text(module: str, base: str) -> str | None:
    found = re.fullmatch(r"lora_(te1?|te2)_text_model_encoder_layers_(\d+)_(.+)", module)
    if found is None:
        return None
    encoder, layer, rest = found.groups()
    if encoder == "te2":
        rest = rest.replace("mlp_fc1", "mlp_c_fc").replace("mlp_fc2", "mlp_c_proj").replace("self_attn", "attn")
        return f"1_model_transformer_resblocks_{layer}_{rest}"
    if (encoder == "te") != (base == "sd1"):
        return None
    return f"{'0_' if base == 'sdxl' else ''}transformer_text_model_encoder_layers_{layer}_{rest}"


@lru_cache(maxsize=2)
def modules(base: str) -> set[str]:
    """Every linear layer and convolution of the base by the web UI's own names."""
    structure = _SD1 if base == "sd1" else _SDXL
    depths: tuple[int, ...] = structure["depths"]  # type: ignore[assignment]
    found = {"input_blocks_0_0", "out_2", "time_embed_0", "time_embed_2"}
    for block, depth in enumerate(depths):
        for layer in (1, 2):
            found |= _layer(f"input_blocks_{3 * block + layer}", depth)
        if block < len(depths) - 1:
            found.add(f"input_blocks_{3 * block + 3}_0_op")
    for block, depth in enumerate(reversed(depths)):
        for layer in (0, 1, 2):
            found |= _layer(f"output_blocks_{3 * block + layer}", depth)
        if block < len(depths) - 1:
            found.add(f"output_blocks_{3 * block + 2}_{2 if depth else 1}_conv")
    found |= _layer("middle_block", int(structure["middle"]), resnets=("0", "2"))  # type: ignore[call-overload]
    return found | _text(base)


def _layer(stem: str, depth: int, resnets: tuple[str, ...] = ("0",)) -> set[str]:
    found = {f"{stem}_{n}_{part}" for n, part in product(resnets, _RESNET.values())}
    if depth:
        found |= {f"{stem}_1_proj_in", f"{stem}_1_proj_out"}
        inner = [f"attn{n}_{part}" for n, part in product((1, 2), _ATTENTION)] + ["ff_net_0_proj", "ff_net_2"]
        found |= {f"{stem}_1_transformer_blocks_{n}_{part}" for n, part in product(range(depth), inner)}
    return found


def _text(base: str) -> set[str]:
    own = [f"self_attn_{part}_proj" for part in ("q", "k", "v", "out")] + ["mlp_fc1", "mlp_fc2"]
    prefix = "transformer" if base == "sd1" else "0_transformer"
    first = {f"{prefix}_text_model_encoder_layers_{n}_{part}" for n, part in product(range(12), own)}
    if base == "sd1":
        return first
    open_clip = [f"attn_{part}_proj" for part in ("q", "k", "v", "out")] + ["mlp_c_fc", "mlp_c_proj"]
    return first | {f"1_model_transformer_resblocks_{n}_{part}" for n, part in product(range(32), open_clip)}
