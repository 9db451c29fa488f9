"""A Stable Diffusion known by its configs alone: what memory is predicted from, without weights."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_foundry.config.paths import locate
from lora_foundry.config.schema_denoising import DenoisingModel
from lora_foundry.models.families.sd.layout import CONFIGS, read_config
from lora_foundry.models.protocol import BaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from lora_foundry.models.families.sd.denoiser import SdDenoiser
    from lora_foundry.models.families.sd.encoders import LazyModule, SdCaptionEncoder, SdDecoder, SdImageEncoder
    from lora_foundry.models.protocol import Conditioning

_PARTS = ("unet", "vae", "scheduler")
_TEXTS = "text_encoder"  # of a folder that a base is trained from; what is predicted alone may have none
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
    parts = [*_PARTS, *([_TEXTS] if (root / CONFIGS[_TEXTS]).is_file() else [])]
    return SdSizes(root, {part: read_config(root / CONFIGS[part]) for part in parts}, model.prediction_type)


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
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel  # not for a fingerprint

        from lora_foundry.models.families.sd.denoiser import SdDenoiser

        unet = _untouched(lambda: UNet2DConditionModel.from_config(self._configs["unet"]), dtype)
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

    def image_encoder(self, *, dtype: torch.dtype, device: torch.device) -> SdImageEncoder:
        """Encoder of pictures; its VAE is made at the first one."""
        from lora_foundry.models.families.sd.encoders import SdImageEncoder

        return SdImageEncoder(self._vae(dtype, device), self.fingerprint)

    def caption_encoder(self, *, dtype: torch.dtype, device: torch.device) -> SdCaptionEncoder | None:
        """Encoder of captions, which are all empty; None where its config is not there."""
        from lora_foundry.models.families.sd.encoders import LazyModule, SdCaptionEncoder

        if _TEXTS not in self._configs:
            return None
        length = self._configs[_TEXTS]["max_position_embeddings"]
        texts = LazyModule(self._made_texts, dtype=dtype, device=device)
        return SdCaptionEncoder(texts, _Padding(length), self.fingerprint)

    def load_decoder(self, *, dtype: torch.dtype, device: torch.device) -> SdDecoder:
        """Decoder of latents; its VAE is made at the first picture."""
        from lora_foundry.models.families.sd.encoders import SdDecoder

        return SdDecoder(self._vae(dtype, device), self.pixels_per_cell)

    def _vae(self, dtype: torch.dtype, device: torch.device) -> LazyModule:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        from lora_foundry.models.families.sd.encoders import LazyModule

        build = partial(AutoencoderKL.from_config, self._configs["vae"])
        return LazyModule(partial(_untouched, build), dtype=dtype, device=device)

    def _made_texts(self, dtype: torch.dtype) -> Any:  # noqa: ANN401  # transformers is untyped
        from transformers.models.clip.configuration_clip import CLIPTextConfig
        from transformers.models.clip.modeling_clip import CLIPTextModel

        return _untouched(lambda: CLIPTextModel(CLIPTextConfig.from_dict(self._configs[_TEXTS])), dtype)


class _Padding:
    """What a tokenizer makes of empty captions."""

    def __init__(self, length: int) -> None:
        self._length = length

    def encode(self, captions: Sequence[str]) -> list[list[int]]:
        """The first token, as often as a caption has tokens."""
        return [[0] * self._length for _ in captions]


def _untouched(build: Callable[[], Any], dtype: torch.dtype) -> Any:  # noqa: ANN401  # diffusers is untyped
    """A frozen network in memory that was never touched, and so takes none."""
    import torch

    with torch.device("meta"):
        network = build()
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return network.to_empty(device="cpu").requires_grad_(requires_grad=False).eval()
