"""A Stable Diffusion known by its configs alone: what memory is predicted from, without weights."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_foundry.config.paths import locate
from lora_foundry.config.schema_denoising import DenoisingModel
from lora_foundry.models.families.sd.layout import CONFIGS, read_config
from lora_foundry.models.protocol import BaseError

if TYPE_CHECKING:
    import torch

    from lora_foundry.models.families.sd.denoiser import SdDenoiser
    from lora_foundry.models.protocol import Conditioning

_PARTS = ("unet", "vae", "scheduler")
_TOKENS = 77  # of CLIP's text encoders
_SIZES_GIVEN = 6  # original height and width, crop's top and left, target height and width (Podell et al. 2023)


def open_sizes(model: DenoisingModel) -> SdSizes:
    """Find the configs: in ``model.config``, or in the folder ``model.path``.

    Raises:
        BaseError: When they are not there.
    """
    root = locate(model.config if model.config is not None else model.path)
    if not root.is_dir():
        msg = (
            f"model.path: got {model.path!r}, which is no folder here; sizes are read from configs, so give a folder "
            f"with {', '.join(CONFIGS[part] for part in _PARTS)} as model.config (model=sd15 has one)"
        )
        raise BaseError(msg)
    return SdSizes(root, {part: read_config(root / CONFIGS[part]) for part in _PARTS}, model.prediction_type)


class SdSizes:
    """Implements :class:`lora_foundry.models.protocol.BaseSizes`."""

    def __init__(self, root: Path, configs: dict[str, dict[str, Any]], prediction_type: str) -> None:
        self._root = root
        self._configs = configs
        self._prediction_type = prediction_type
        self.pixels_per_cell = 2 ** (len(configs["vae"]["block_out_channels"]) - 1)

    @cached_property
    def fingerprint(self) -> str:
        """Equal only where the sizes are."""
        return hashlib.sha256(json.dumps(self._configs, sort_keys=True).encode()).hexdigest()

    def build(self, dtype: torch.dtype) -> SdDenoiser:
        """The denoiser with weights of no particular value, in memory that was never touched and so takes none."""
        import torch  # a fingerprint is served without torch
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        from lora_foundry.models.families.sd.denoiser import SdDenoiser

        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(self._configs["unet"])
        for tensor in (*unet.parameters(), *unet.buffers()):
            tensor.data = tensor.data.to(dtype)
        unet.to_empty(device="cpu").requires_grad_(requires_grad=False).eval()
        return SdDenoiser(unet, self._configs["scheduler"], self._prediction_type, gradient_checkpointing=False)

    def conditioning(self, rows: int, dtype: torch.dtype) -> Conditioning:
        """Zeros of the shapes that the denoiser is told, one row a picture."""
        import torch

        unet = self._configs["unet"]
        states = {"encoder_hidden_states": torch.zeros(rows, _TOKENS, unet["cross_attention_dim"], dtype=dtype)}
        if unet.get("addition_embed_type") == "text_time":
            width = unet["projection_class_embeddings_input_dim"]
            pooled = width - _SIZES_GIVEN * unet["addition_time_embed_dim"]
            states["text_embeds"] = torch.zeros(rows, pooled, dtype=dtype)
            states["time_ids"] = torch.zeros(rows, _SIZES_GIVEN, dtype=dtype)
        return states
