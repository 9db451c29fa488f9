"""Reading a part's weights from either layout into diffusers' and transformers' own classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lora_foundry.models.families.sd.layout import PREFIXES, SdLayout
from lora_foundry.models.families.sd.pickled import PICKLED, read_pickled
from lora_foundry.models.protocol import BaseError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def load_unet(layout: SdLayout, dtype: torch.dtype) -> nn.Module:
    """``UNet2DConditionModel`` in eval mode on the CPU.

    Raises:
        BaseError: When weights are missing or do not fit the config.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return _loaded(layout, "unet", UNet2DConditionModel, convert_ldm_unet_checkpoint, dtype)


def unet_without_weights(layout: SdLayout) -> Any:  # noqa: ANN401  # diffusers is untyped
    """The UNet that the configs describe, in no memory."""
    import torch
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(layout.config("unet"))


def load_vae(layout: SdLayout, dtype: torch.dtype) -> nn.Module:
    """``AutoencoderKL`` in eval mode on the CPU.

    Raises:
        BaseError: When weights are missing or do not fit the config.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return _loaded(layout, "vae", AutoencoderKL, convert_ldm_vae_checkpoint, dtype)


def load_text_encoder(layout: SdLayout, dtype: torch.dtype) -> nn.Module:
    """``CLIPTextModel`` in eval mode on the CPU.

    Raises:
        BaseError: When weights are missing or do not fit the config.
    """
    import torch
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    if layout.single is None:
        folder, variant = layout.root / "text_encoder", layout.variants["text_encoder"]
        with _no_progress_bar():
            return _checked(CLIPTextModel.from_pretrained(folder, dtype=dtype, variant=variant, **LOCAL), layout)
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint

    state = convert_ldm_clip_checkpoint(_read_single(layout.single, PREFIXES["text_encoder"]))
    config = CLIPTextConfig.from_dict(layout.config("text_encoder"))

    def build() -> nn.Module:
        model: Any = CLIPTextModel(config)
        # Not in any checkpoint, so it would stay without memory.
        model.embeddings.position_ids = torch.arange(config.max_position_embeddings, device="cpu").unsqueeze(0)
        return cast("nn.Module", model)

    return _assigned(build, _fit_clip_names(state), layout, dtype)


def _loaded(
    layout: SdLayout,
    part: str,
    model: Any,  # noqa: ANN401  # a class of diffusers, which is untyped
    convert: Callable[[dict[str, Tensor], dict[str, Any]], dict[str, Tensor]],
    dtype: torch.dtype,
) -> nn.Module:
    """A part of diffusers' own, from a folder, or from a single file whose names ``convert`` knows."""
    if layout.single is None:
        variant = layout.variants[part]
        made = model.from_pretrained(layout.root, subfolder=part, dtype=dtype, variant=variant, **LOCAL)
        return _checked(made, layout)
    config = layout.config(part)
    state = convert(_read_single(layout.single, PREFIXES[part]), config)
    return _assigned(lambda: model.from_config(config), state, layout, dtype)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Transformers draws a bar for a load of milliseconds, across the one that shows the training."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


LOCAL: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}


def _read_single(file: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of ``file`` whose names begin with one of ``prefixes``; the others are not read."""
    if file.suffix in PICKLED:
        return {name: tensor for name, tensor in read_pickled(file).items() if name.startswith(prefixes)}
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys() if name.startswith(prefixes)}  # noqa: SIM118


def _assigned(
    build: Callable[[], nn.Module], state: dict[str, Tensor], layout: SdLayout, dtype: torch.dtype
) -> nn.Module:
    """Build a module without memory of its own, and make ``state`` its parameters."""
    import torch

    with torch.device("meta"):
        module = build()
    state.pop("embeddings.position_ids", None)  # old checkpoints keep it; it is computed by now
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        first = "; ".join(line.strip() for line in str(error).splitlines()[1:5])
        msg = f"{layout.single} does not fit the configs in {layout.root} (model.config): {first}"
        raise BaseError(msg) from error
    return _checked(module.to(dtype), layout)


def _fit_clip_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Transformers dropped the inner ``text_model`` in 5.6; checkpoints keep it."""
    return {name.removeprefix("text_model."): tensor for name, tensor in state.items()}


def _checked(module: nn.Module, layout: SdLayout) -> nn.Module:
    """The module, frozen and in eval mode, after making sure that every weight was read."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    unread = [name for name, tensor in tensors if tensor.is_meta]
    if unread:
        msg = f"{layout.single or layout.root}: no weights for {', '.join(unread[:5])} ({len(unread)} in all)"
        raise BaseError(msg)
    return module.requires_grad_(requires_grad=False).eval()
