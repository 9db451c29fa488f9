"""Adapters, bases and metadata that the tests of this room share."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lora_foundry.lora.formats.adapter import LoraWeights
from lora_foundry.lora.formats.metadata import FileMetadata

CLIP: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
UNET: dict[str, Any] = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}


def metadata(**changes: Any) -> FileMetadata:
    given: dict[str, Any] = {
        "base_version": "sd_v1",
        "base_name": "tiny-sd",
        "prediction_type": "epsilon",
        "resolution": 64,
        "train_images": 48,
        "started_at": 1750000000.0,  # 2025-06-15T15:06:40Z
        "network_args": {"dropout": 0.1},
        "tag_frequency": {"flat": {"red heart": 2, "pizza": 1}},
        "dataset_dirs": {"flat": 48},
        "trigger_phrase": "flat style",
        "description": "Flat drawings.",
        "notes": "Trained on a test.",
        "preferred_weight": 0.8,
    }
    return FileMetadata(**{**given, **changes})


def sdxl_metadata() -> FileMetadata:
    return metadata(base_version="sdxl_base_v1-0", base_name="tiny-sdxl", resolution=128)


def lora(shape: tuple[int, ...], rank: int, alpha: float, seed: int = 0, size: float = 0.1) -> LoraWeights:
    """A random update for a weight of ``shape``."""
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *shape[1:], generator=draw) * size
    up = torch.randn(shape[0], rank, *([1] * (len(shape) - 2)), generator=draw) * size
    return LoraWeights(down, up, alpha)


def adapt(
    model: nn.Module, ranks: tuple[int, ...] = (4,), alphas: tuple[float, ...] = (4.0,), only: str = ""
) -> dict[str, LoraWeights]:
    """A random update for every linear layer and convolution that the formats name, ranks and alphas in turn."""
    weights = {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and only in name
    }
    apart = ("add_embedding", "text_projection", "embeddings")
    chosen = {name: weight for name, weight in weights.items() if not any(part in name for part in apart)}
    return {
        name: lora(tuple(weight.shape), ranks[i % len(ranks)], alphas[i % len(alphas)], seed=i)
        for i, (name, weight) in enumerate(chosen.items())
    }


def tiny_pipeline() -> StableDiffusionPipeline:
    """A Stable Diffusion of random weights, the same each time."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no concern here: a random base has no trained settings
        return StableDiffusionPipeline(
            vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=8, latent_channels=4),
            text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP)).eval(),
            tokenizer=None,
            unet=UNet2DConditionModel(**UNET).eval(),
            scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def tiny_sdxl_pipeline() -> StableDiffusionXLPipeline:
    """An SDXL of random weights, the same each time; time ids of 6 x 8 and a pooled text state of 32 make 80."""
    torch.manual_seed(1)
    changed: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 64,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 80,
        "transformer_layers_per_block": (1, 2),
    }
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=8, latent_channels=4),
        text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**CLIP, projection_dim=32)).eval(),
        tokenizer=None,
        tokenizer_2=None,
        unet=UNet2DConditionModel(**{**UNET, **changed}).eval(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        add_watermarker=False,
    )


@lru_cache(maxsize=1)
def sd15_unet_modules() -> tuple[str, ...]:
    """Names of all linear layers and convolutions of Stable Diffusion 1.5's UNet (UNet2DConditionModel's defaults)."""
    with torch.device("meta"):
        return _adaptable(UNet2DConditionModel(cross_attention_dim=768))


@lru_cache(maxsize=1)
def sdxl_unet_modules() -> tuple[str, ...]:
    """The same of SDXL's UNet, with the structure of stable-diffusion-xl-base-1.0's config.json."""
    with torch.device("meta"):
        return _adaptable(
            UNet2DConditionModel(
                block_out_channels=(320, 640, 1280),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10),
                attention_head_dim=(5, 10, 20),
                cross_attention_dim=2048,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
            )
        )


def clip_modules(layers: int, *, projected: bool = False) -> tuple[str, ...]:
    """Names of a CLIP text encoder's linear layers as the installed transformers gives them."""
    config = CLIPTextConfig(**{**CLIP, "num_hidden_layers": layers, "projection_dim": 32})
    with torch.device("meta"):
        names = _adaptable((CLIPTextModelWithProjection if projected else CLIPTextModel)(config))
    return tuple(name for name in names if name != "text_projection")


def _adaptable(model: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d))
