"""Where encoded images and captions are kept in the cache: keys that say everything that decides them."""

from __future__ import annotations

import torch

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.cache import key_of
from lora_foundry.data.transform import Variant, transform_settings

# Encoders multiply 32-bit numbers as such, so a card's entries are a CPU's to rounding and neither device nor torch's
# version is in the key: a cache that moves with its user is used everywhere. What earlier versions kept may have been
# made by a card in TF32, a thousand times coarser, and has other keys.
_PRODUCTS = "ieee"


def image_key(digest: str, data: DataConfig, variant: Variant, *, fingerprint: str, dtype: torch.dtype) -> str:
    """Where the latents of one variant of an image are kept.

    Args:
        digest: sha256 of the image's bytes.
        data: Resolution, crop and background.
        variant: Flip and crop.
        fingerprint: Names the VAE: equal only for equal weights and scaling.
        dtype: Of the stored latents.
    """
    return key_of(
        {
            "kind": "image",
            "image": digest,
            "transform": transform_settings(data),
            "flip": variant.flip,
            "place": variant.crop,
            "encoder": fingerprint,
            "dtype": str(dtype),
            "products": _PRODUCTS,
        }
    )


def caption_key(caption: str, *, fingerprint: str, dtype: torch.dtype) -> str:
    """Where the text states of a caption are kept; ``fingerprint`` names tokenizer and text encoder."""
    return key_of(
        {
            "kind": "caption",
            "caption": caption,
            "encoder": fingerprint,
            "dtype": str(dtype),
            "products": _PRODUCTS,
        }
    )
