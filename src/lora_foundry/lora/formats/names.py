"""Module names: from kohya's underscores back to dots, and which names every reader understands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_ATTENTION = r"attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2)"
_INSIDE = (
    rf"attentions\.\d+\.(?:proj_in|proj_out|transformer_blocks\.\d+\.(?:{_ATTENTION}))"
    r"|resnets\.\d+\.(?:conv1|conv2|conv_shortcut|time_emb_proj)"
)
_UNET = re.compile(
    rf"conv_in|conv_out|time_embedding\.linear_[12]|(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\.(?:{_INSIDE})"
    r"|down_blocks\.\d+\.downsamplers\.0\.conv|up_blocks\.\d+\.upsamplers\.0\.conv"
)
_IN_BLOCKS = re.compile(r"(?:down_blocks\.|mid_block\.|up_blocks\.)")
_TEXT = re.compile(r"text_model\.encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])")
_GRAMMAR = {"unet": _UNET, "text_encoder": _TEXT, "text_encoder_2": _TEXT}

# The only underscores inside the dotted parts of those names; everything else in a kohya name was a dot.
_PARTS = (
    *("down_blocks", "mid_block", "up_blocks", "transformer_blocks", "time_embedding", "linear_1", "linear_2"),
    *("to_q", "to_k", "to_v", "to_out", "proj_in", "proj_out", "conv_in", "conv_out", "conv_shortcut"),
    *("time_emb_proj", "text_model", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj"),
)
_PART = re.compile(rf"(?<![^_])(?:{'|'.join(_PARTS)})(?![^_])")
_SGM = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_2")


def flat(name: str) -> str:
    """``mid_block.resnets.0.conv1`` as kohya writes it, ``mid_block_resnets_0_conv1``."""
    return name.replace(".", "_")


def dotted(component: str, flat_name: str) -> str | None:
    """The dotted name of a kohya module by the grammar of diffusers' UNet and CLIP; None when it is not one."""
    if component != "unet" and flat_name.startswith("encoder_"):
        flat_name = f"text_model_{flat_name}"  # written from a flattened CLIPTextModel
    kept = _PART.sub(lambda match: match.group().replace("_", "\0"), flat_name)
    name = kept.replace("_", ".").replace("\0", "_")
    return name if _GRAMMAR[component].fullmatch(name) else None


def component_of(name: str) -> str | None:
    """Whose module a dotted name is: the UNet's, or the (first) text encoder's; None when it is neither's."""
    return next((c for c in ("unet", "text_encoder") if _GRAMMAR[c].fullmatch(name)), None)


def is_sgm(flat_name: str) -> bool:
    """Whether a kohya UNet name follows the original (SGM) UNet instead of diffusers' blocks."""
    return flat_name.startswith(_SGM)


def unwritable(component: str, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that the three image readers would not all find in a kohya file.

    ``add_embedding`` of SDXL, for example: ComfyUI knows it, diffusers takes it apart at the wrong place.
    """
    return [name for name in names if not _GRAMMAR[component].fullmatch(name)]


def unread_by_kohya(names: Iterable[str]) -> list[str]:
    """Those UNet layers of ``names`` that kohya's own network and merge leave out without an error.

    They look inside ``Transformer2DModel``, ``ResnetBlock2D``, ``Downsample2D`` and ``Upsample2D`` alone
    (sd-scripts, networks/lora.py and networks/merge_lora.py).
    """
    return [name for name in names if not _IN_BLOCKS.match(name)]


def by_flat_name(module_names: Collection[str]) -> Mapping[str, str]:
    """Kohya's name of each live module, for files whose names the grammar alone cannot settle."""
    return {flat(name): name for name in module_names}
