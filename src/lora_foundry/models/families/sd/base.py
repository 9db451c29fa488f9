"""A Stable Diffusion's files, and the ways to load its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.paths import locate
from lora_foundry.config.schema_denoising import DenoisingModel
from lora_foundry.models.families.sd.facts import Configs, config_problems, weight_problems, with_defaults
from lora_foundry.models.families.sd.layout import CONFIGS, STEMS, SdLayout
from lora_foundry.models.families.sd.locating import find_layout, is_hub_id
from lora_foundry.models.families.sd.pickled import PICKLED
from lora_foundry.models.protocol import BaseError, in_one_line
from lora_foundry.models.tokens import CaptionTokenizer, most_tokens, read_tokenizer

if TYPE_CHECKING:
    import torch

    from lora_foundry.models.families.sd.denoiser import SdDenoiser
    from lora_foundry.models.families.sd.encoders import SdCaptionEncoder, SdDecoder, SdImageEncoder

_LINEAR, _CONV = 2, 4  # dimensions of their weights; norms and biases have one


def open_files(model: DenoisingModel) -> SdBase:
    """Find a Stable Diffusion and check that its files and sizes fit the configuration.

    Raises:
        BaseError: As in :func:`lora_foundry.models.opening.open_base`.
    """
    layout = find_layout(model)
    configs = with_defaults({part: layout.config(part) for part in CONFIGS})
    problems = config_problems(configs, layout.root, model.prediction_type)
    problems = problems or weight_problems(configs, {part: layout.shapes_of(part) for part in STEMS})
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        configs_of = f" with the configs in {layout.root}" if layout.single else ""
        msg = f"model.path: got {model.path}{configs_of}, no Stable Diffusion that can be trained here:\n{lines}"
        raise BaseError(msg)
    base = SdBase(layout, configs, model.prediction_type)
    if model.stride % base.stride:
        msg = f"model.stride: got {model.stride}, allowed is a multiple of {base.stride} (what {model.path} needs)"
        raise BaseError(msg)
    return base


def file_problems(model: DenoisingModel, start: Path | None = None) -> list[str]:
    """As :func:`~lora_foundry.models.opening.file_problems`; a pickled file, which torch reads, is the worker's."""
    here = _here(model, start)
    path = Path(here.path)
    if not path.exists() and is_hub_id(model.path):
        return []
    if path.is_file() and path.suffix in PICKLED and here.config is not None:
        return []
    try:
        open_files(here)
    except BaseError as error:
        line = in_one_line(error).replace(f"{here.path}/", "")
        return [line if line.startswith("model.") else f"model.path: {line}"]
    except OSError as error:
        return [f"model.path: {error.filename or path} cannot be read ({error.strerror})"]
    return []


def layers_of(model: DenoisingModel, start: Path | None = None) -> Mapping[str, tuple[int, ...]] | None:
    """As :func:`~lora_foundry.models.opening.layers_of`; a single file has other names, which torch alone knows."""
    here = _here(model, start)
    try:
        return open_files(here).layers() if Path(here.path).is_dir() else None
    except (BaseError, OSError):
        return None


def _here(model: DenoisingModel, start: Path | None) -> DenoisingModel:
    """The same with paths that are found from any working folder."""
    path = locate(model.path, start)
    config = None if model.config is None else str(locate(model.config, start))
    return replace(model, path=str(path) if path.exists() else model.path, config=config)


class SdBase:
    """Implements :class:`lora_foundry.models.protocol.BaseFiles`."""

    def __init__(self, layout: SdLayout, configs: Configs, prediction_type: str) -> None:
        """Take what was found and checked; no weights are read."""
        self._layout = layout
        self._prediction_type = prediction_type
        self.remarks = layout.remarks
        self.pixels_per_cell = 2 ** (len(configs["vae"]["block_out_channels"]) - 1)
        self.stride = self.pixels_per_cell * 2 ** (len(configs["unet"]["block_out_channels"]) - 1)
        self.max_tokens = most_tokens(layout.root / "tokenizer", configs["text_encoder"]["max_position_embeddings"])

    @property
    def path(self) -> Path:
        """The folder or the single file."""
        return self._layout.single or self._layout.root

    @cached_property
    def base_hash(self) -> str:
        """Content hash of all parts."""
        return self._layout.hash_of("unet", "vae", "text_encoder", "tokenizer", "scheduler")

    @cached_property
    def _words(self) -> CaptionTokenizer:
        return read_tokenizer(self._layout.root / "tokenizer", self.max_tokens)

    def import_libraries(self) -> None:
        """Import diffusers' and transformers' classes."""
        from diffusers.models.autoencoders import autoencoder_kl  # noqa: F401
        from diffusers.models.unets import unet_2d_condition  # noqa: F401
        from diffusers.schedulers import scheduling_ddim  # noqa: F401
        from transformers.models.clip import modeling_clip  # noqa: F401

    def layers(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the weights of the layers that an adapter can target.

        A folder's are read from the files' headers, without torch; those of a single file, which has other names, from
        a UNet without weights.
        """
        return self._layers

    @cached_property
    def _layers(self) -> dict[str, tuple[int, ...]]:
        if self._layout.single is None:
            ends = {
                n.removesuffix(".weight"): s for n, s in self._layout.shapes_of("unet").items() if n.endswith(".weight")
            }
            return {name: shape for name, shape in ends.items() if len(shape) in (_LINEAR, _CONV)}
        from lora_foundry.models.families.sd.weights import unet_without_weights
        from lora_foundry.models.targets import target_layers

        unet = unet_without_weights(self._layout)
        return {name: tuple(unet.get_submodule(name).weight.shape) for name in target_layers({"unet": unet})}

    def weight_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of the UNet's weights in ``dtype``, from the files' headers."""
        return self._layout.numbers_of("unet") * dtype.itemsize

    def tokenizer(self) -> CaptionTokenizer:
        """The base's tokenizer, read once."""
        return self._words

    def count_tokens(self, caption: str) -> int:
        """Tokens of ``caption``, begin and end marks included, before any is cut off."""
        return self._words.count(caption)

    def image_encoder(self, *, dtype: torch.dtype, device: torch.device) -> SdImageEncoder:
        """Encoder of pictures; its weights are read at the first picture."""
        from lora_foundry.models.families.sd.encoders import LazyModule, SdImageEncoder
        from lora_foundry.models.families.sd.weights import load_vae

        vae = LazyModule(partial(load_vae, self._layout), dtype=dtype, device=device)
        return SdImageEncoder(vae, f"sd-vae-mode-1:{self._layout.hash_of('vae')}:{dtype}")

    def caption_encoder(self, *, dtype: torch.dtype, device: torch.device) -> SdCaptionEncoder:
        """Encoder of captions; its weights are read at the first caption."""
        from lora_foundry.models.families.sd.encoders import LazyModule, SdCaptionEncoder
        from lora_foundry.models.families.sd.weights import load_text_encoder

        text_encoder = LazyModule(partial(load_text_encoder, self._layout), dtype=dtype, device=device)
        fingerprint = f"sd-clip-last-1:{self._layout.hash_of('text_encoder', 'tokenizer')}:{dtype}"
        return SdCaptionEncoder(text_encoder, self._words, fingerprint)

    def load_denoiser(
        self, *, dtype: torch.dtype, device: torch.device, gradient_checkpointing: bool = False
    ) -> SdDenoiser:
        """Read the UNet, frozen and in eval mode.

        Raises:
            BaseError: When weights are missing or do not fit, or the base predicts something unknown.
        """
        from lora_foundry.models.families.sd.denoiser import SdDenoiser
        from lora_foundry.models.families.sd.weights import load_unet

        return SdDenoiser(
            load_unet(self._layout, dtype).to(device),
            self._layout.config("scheduler"),
            self._prediction_type,
            gradient_checkpointing=gradient_checkpointing,
        )

    def load_decoder(self, *, dtype: torch.dtype, device: torch.device) -> SdDecoder:
        """Decoder of latents; its weights are read at the first picture."""
        from lora_foundry.models.families.sd.encoders import LazyModule, SdDecoder
        from lora_foundry.models.families.sd.weights import load_vae

        vae = LazyModule(partial(load_vae, self._layout), dtype=dtype, device=device)
        return SdDecoder(vae, self.pixels_per_cell)
