"""From diffusers' tensor names to those of the original Stable Diffusion checkpoints.

The other way round than the loaders go, and written from the layout of the original code (a flat list of input
blocks, a middle block, a flat list of output blocks), so that a test which loads the result checks both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

UNET_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def ldm_state(
    unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], text: Mapping[str, Tensor], *, layers: int, vae_levels: int
) -> dict[str, Tensor]:
    """One state dict with the original's names.

    Args:
        unet: The UNet's, in diffusers' names; at least one attention in every level that has one.
        vae: The VAE's.
        text: The text encoder's, with or without ``text_model.``.
        layers: The UNet's ``layers_per_block``.
        vae_levels: Levels of the VAE.
    """
    state = {f"model.diffusion_model.{unet_name(n, layers, set(unet))}": t for n, t in unet.items()}
    for name, tensor in vae.items():
        square = "attentions" in name and tensor.ndim == 2  # the original has 1x1 convolutions there
        state[f"first_stage_model.{vae_name(name, vae_levels)}"] = tensor[..., None, None] if square else tensor
    for name, tensor in text.items():
        state[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    return {name: tensor.contiguous() for name, tensor in state.items()}


def unet_name(name: str, layers: int, names: set[str]) -> str:
    """The original's name of a UNet tensor."""
    for ours, theirs in UNET_OUTER.items():
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    middle = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name)
    if middle:
        kind, j, rest = middle[1], int(middle[2]), middle[3]
        return f"middle_block.{2 * j if kind == 'resnets' else 1}.{_inner(kind, rest)}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    assert found, name
    side, i, kind, j, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (i + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        place = 2 if any(n.startswith(f"up_blocks.{i}.attentions.") for n in names) else 1
        return f"output_blocks.{(layers + 1) * i + layers}.{place}.{rest}"
    row = f"input_blocks.{(layers + 1) * i + j + 1}" if side == "down" else f"output_blocks.{(layers + 1) * i + j}"
    return f"{row}.{0 if kind == 'resnets' else 1}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    part, last = rest.rsplit(".", 1)
    return f"{UNET_RESNET[part]}.{last}"


def vae_name(name: str, levels: int) -> str:
    """The original's name of a VAE tensor."""
    attention = re.fullmatch(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", name)
    if attention:
        return f"{attention[1]}.mid.attn_1.{VAE_ATTENTION[attention[2]]}.{attention[3]}"
    name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
