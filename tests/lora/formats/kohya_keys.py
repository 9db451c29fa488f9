"""Kohya's sd-scripts as a reader: which of a UNet's layers its network and its merge look at.

Both walk the base for modules of four classes and take the linear layers and convolutions inside; a key of any
other layer is left out with a line in the log.
"""

from __future__ import annotations

from torch import nn

_CLASSES = {"Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"}


def known(unet: nn.Module) -> set[str]:
    """Every module key that finds its layer."""
    return {
        f"lora_unet_{name}.{child}".replace(".", "_")
        for name, module in unet.named_modules()
        if type(module).__name__ in _CLASSES
        for child, layer in module.named_modules()
        if type(layer).__name__ in ("Linear", "Conv2d")
    }
