"""Packs on bases of a real size whose weights were drawn where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from bench.device.timing import NoWay
from bench.toy import member_of
from lora_foundry.config.compose import compose_job
from lora_foundry.data.encoding import EncodedData
from lora_foundry.models.opening import open_sizes
from lora_foundry.tasks.denoising import Denoising
from lora_foundry.training.pack import Pack
from lora_foundry.training.precision import DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from lora_foundry.config import JobConfig
    from lora_foundry.models.protocol import BaseSizes, Denoiser

IMAGES = 16
_SPREAD = 0.02  # of the drawn weights: outputs stay finite in bf16
_REAL = ("model=sd15", "data.resolution=512")
_SMALL = ("model=tiny-sd", "data.resolution=64")
_USUAL = ("trainer.precision=bf16-mixed", "lora.target_modules=attention", "lora.rank=8", "optimizer.lr=1e-4")


def words(cache: Path, *overrides: str, small: bool) -> list[str]:
    """Overrides of the usual job: SD 1.5's size at 512 px in bf16, rank 8 on attention; small, the embedded base."""
    return [*(_SMALL if small else _REAL), *_USUAL, f"data.cache_dir={cache}", *overrides]


def build(overrides: Sequence[str], members: int, device: torch.device) -> tuple[JobConfig, Pack]:
    """A pack of members that train for ever and write nothing."""
    config = compose_job(*overrides)
    sizes = open_sizes(config.model)
    denoiser = drawn(sizes, config, device)
    data = random_data(config, sizes, denoiser.latent_channels)
    return config, Pack(
        Denoising(denoiser), [member_of(config, number, data) for number in range(members)], relief=NoWay()
    )


def drawn(sizes: BaseSizes, config: JobConfig, device: torch.device) -> Denoiser:
    """A base with weights drawn on ``device``: 860 million numbers take seconds on a card, a minute on its host."""
    denoiser = sizes.build(DTYPES[config.trainer.precision].base)
    denoiser.module.to(device)
    for tensor in (*denoiser.module.parameters(), *denoiser.module.buffers()):
        if tensor.is_floating_point():
            tensor.data.normal_(std=_SPREAD)
    denoiser.set_gradient_checkpointing(enabled=config.trainer.gradient_checkpointing)
    return denoiser


def random_data(config: JobConfig, sizes: BaseSizes, channels: int) -> EncodedData:
    """Encoded images of the right shapes; their values do not change how long a step takes."""
    side = config.data.resolution // sizes.pixels_per_cell
    draw = torch.Generator().manual_seed(0)
    variants = config.data.crop_variants * (2 if config.data.flip else 1)
    return EncodedData(
        latents=torch.randn(IMAGES, variants, channels, side, side, generator=draw),
        captions={
            name: torch.randn(states.shape, generator=draw)
            for name, states in sizes.conditioning(IMAGES + 1, torch.float32).items()
        },
        caption_index=torch.arange(IMAGES),
        records=(),
    )
