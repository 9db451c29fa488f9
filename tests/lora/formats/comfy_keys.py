"""ComfyUI as a reader: the set of module keys it looks for, made from the base's structure.

It walks the base, not the file: a key that is not in this set is left unused with a line in its log.
"""

from __future__ import annotations

from itertools import product

_BLOCK = [f"attn{n}_{part}" for n, part in product((1, 2), ("to_q", "to_k", "to_v", "to_out_0"))]
_BLOCK += ["ff_net_0_proj", "ff_net_2"]
_RESNET = ("conv1", "conv2", "time_emb_proj", "conv_shortcut")
_TEXT = [f"self_attn_{part}_proj" for part in ("q", "k", "v", "out")] + ["mlp_fc1", "mlp_fc2"]
SUFFIXES = ("lora_up.weight", "lora_down.weight", "alpha", "dora_scale")


def known(base: str) -> set[str]:
    """Every module key of ``sd1`` or ``sdxl``."""
    depths = (1, 1, 1, 0) if base == "sd1" else (0, 2, 10)
    middle = 1 if base == "sd1" else 10
    names = {"conv_in", "conv_out", "time_embedding_linear_1", "time_embedding_linear_2"}
    names |= {"add_embedding_linear_1", "add_embedding_linear_2"}
    for block, depth in enumerate(depths):
        names |= _layers(f"down_blocks_{block}", 2, depth) | {f"down_blocks_{block}_downsamplers_0_conv"}
    for block, depth in enumerate(reversed(depths)):
        names |= _layers(f"up_blocks_{block}", 3, depth) | {f"up_blocks_{block}_upsamplers_0_conv"}
    names |= {f"mid_block_resnets_{n}_{part}" for n, part in product((0, 1), _RESNET)}
    names |= _attention("mid_block_attentions_0", middle)
    keys = {f"lora_unet_{name}" for name in names}
    for prefix, layers in (("te", 12), ("te1", 12)) + ((("te2", 32),) if base == "sdxl" else ()):
        keys |= {f"lora_{prefix}_text_model_encoder_layers_{n}_{part}" for n, part in product(range(layers), _TEXT)}
    return keys


def _layers(stem: str, layers: int, depth: int) -> set[str]:
    found = {f"{stem}_resnets_{n}_{part}" for n, part in product(range(layers), _RESNET)}
    for n in range(layers):
        found |= _attention(f"{stem}_attentions_{n}", depth)
    return found


def _attention(stem: str, depth: int) -> set[str]:
    inner = {f"{stem}_transformer_blocks_{n}_{part}" for n, part in product(range(depth), _BLOCK)}
    return inner | {f"{stem}_proj_in", f"{stem}_proj_out"} if depth else set()
