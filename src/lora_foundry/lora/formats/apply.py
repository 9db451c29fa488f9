"""The plainest way to use an adapter: add its update to the weights, and take it off again.

Independent of the packed layers on purpose, so that an exported file is checked by other code than trained it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from lora_foundry.lora.formats.adapter import Adapter, AdapterError, LoraWeights, listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn


def merged(weight: Tensor, lora: LoraWeights, scale: float = 1.0) -> Tensor:
    """``W + scale * alpha / r * up @ down`` in fp32 or better, then in ``weight``'s dtype; DoRA rescales each output.

    Args:
        weight: ``[out, in]`` or ``[out, in, kh, kw]``.
        lora: The update.
        scale: Strength of the adapter; 0 is the base.

    Returns:
        The merged weight, shaped like ``weight``. DoRA follows Liu et al. 2024, eq. 5, with the strength
        applied to the difference from the base, as ComfyUI does.
    """
    if lora.dora_scale is not None:
        return _merged_dora(weight, lora, lora.dora_scale, scale)
    wide = torch.promote_types(weight.dtype, torch.float32)
    down, up = (t.detach().to(weight.device, wide).flatten(1) for t in (lora.down, lora.up))
    base = weight.detach().to(wide).flatten(1)
    return torch.addmm(base, up, down, alpha=scale * lora.scale).reshape(weight.shape).to(weight.dtype)


def _merged_dora(weight: Tensor, lora: LoraWeights, magnitudes: Tensor, scale: float) -> Tensor:
    down, up = (t.detach().to(weight.device, torch.float64) for t in (lora.down, lora.up))
    base = weight.detach().to(torch.float64)
    target = base + lora.scale * (up.flatten(1) @ down.flatten(1)).reshape(base.shape)
    norm = target.flatten(1).norm(dim=1).reshape(-1, *([1] * (base.ndim - 1)))
    target = target * magnitudes.detach().to(base) / norm
    return (base + scale * (target - base)).to(weight.dtype)


@contextmanager
def apply_adapter(
    unet: nn.Module | None,
    adapter: Adapter,
    scale: float = 1.0,
    *,
    text_encoder: nn.Module | None = None,
    text_encoder_2: nn.Module | None = None,
) -> Iterator[None]:
    """Inside the block the given models have the adapter merged; afterwards their weights are bit-equal to before.

    Components that are None are left out. For comparisons to 1e-3 the models should be fp32.

    Raises:
        AdapterError: Listing modules that a model lacks or whose shape does not fit.
    """
    pairs = ((unet, adapter.unet), (text_encoder, adapter.text_encoder), (text_encoder_2, adapter.text_encoder_2))
    with ExitStack() as stack:
        for model, modules in pairs:
            if model is not None:
                stack.enter_context(_apply(model, modules, scale))
        yield


@contextmanager
def _apply(model: nn.Module, modules: Mapping[str, LoraWeights], scale: float) -> Iterator[None]:
    """The weights themselves are set aside and put back: nothing is copied, and afterwards they are what they were."""
    found = _weights(model, modules)
    kept = {name: parameter.data for name, parameter in found.items()}
    try:
        for name, parameter in found.items():
            parameter.data = merged(kept[name], modules[name], scale)
        yield
    finally:
        for name, parameter in found.items():
            parameter.data = kept[name]


def _weights(model: nn.Module, modules: Mapping[str, LoraWeights]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    problems: list[str] = []
    for name, lora in modules.items():
        module = _module(model, name) or _module(model, name.removeprefix("text_model."))
        module = getattr(module, "base_layer", module)  # a layer that PEFT wrapped
        weight = getattr(module, "weight", None)
        shape = (lora.up.shape[0], *lora.down.shape[1:])
        if weight is None:
            problems.append(f"{name}: {type(model).__name__} has no such layer")
        elif tuple(weight.shape) != shape:
            problems.append(f"{name}: the layer's weight is {tuple(weight.shape)}, the adapter's update {shape}")
        else:
            found[name] = weight
    if problems:
        raise AdapterError(listing("The adapter does not fit the model", problems))
    return found


def _module(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None
