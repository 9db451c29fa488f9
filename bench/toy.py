"""Packs and plain steps on the embedded base with cached tensors, so that only steps are timed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn import functional

from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import JobConfig, Precision
from lora_foundry.data.encoding import EncodedData
from lora_foundry.data.order import SampleOrder
from lora_foundry.models.opening import open_base
from lora_foundry.models.protocol import Denoiser
from lora_foundry.tasks.denoising import Denoising, Material
from lora_foundry.training.member import Member, Provenance
from lora_foundry.training.pack import Pack
from lora_foundry.training.pack_step import run_step
from lora_foundry.training.precision import DTYPES

IMAGES, VARIANTS, LEVELS = 64, 2, 1000
MANY_STEPS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One member's share of a pack.

    Attributes:
        batch: Rows of its micro-batch.
        rank: Its rank.
    """

    batch: int
    rank: int = 8


def load_denoiser(precision: Precision = "32-true") -> Denoiser:
    """The embedded base's denoiser on the CPU."""
    base = open_base(compose_job().model)
    return base.load_denoiser(dtype=DTYPES[precision].base, device=torch.device("cpu"))


def random_data(denoiser: Denoiser) -> EncodedData:
    """Tensors of the demo's shapes; their values do not change how long a step takes."""
    config: Any = denoiser.module.config
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(IMAGES, VARIANTS, config.in_channels, 16, 16, generator=generator)
    states = torch.randn(IMAGES + 1, 77, config.cross_attention_dim, generator=generator)
    return EncodedData(
        latents=latents,
        captions={"encoder_hidden_states": states},
        caption_index=torch.arange(IMAGES),
        records=(),
    )


def make_member(number: int, shape: Shape, data: EncodedData, *overrides: str) -> Member:
    """A member that trains as the defaults say, for ever."""
    config: JobConfig = compose_job(
        f"lora.rank={shape.rank}",
        f"data.batch_size={shape.batch}",
        f"trainer.max_steps={MANY_STEPS}",
        f"seed={number}",
        *overrides,
    )
    return member_of(config, number, data)


def member_of(config: JobConfig, number: int, data: EncodedData) -> Member:
    """A member that trains for ever and writes nothing."""
    return Member(
        job=number,
        name=f"member{number}",
        folder=Path(),
        config=config,
        material=Material(train=data, validation=data),
        provenance=Provenance(base_hash="", data_hash="", started_at=0.0),
        order=SampleOrder.of(config.data, seed=number, n_images=len(data.caption_index)),
        total_steps=MANY_STEPS,
    )


def pack_step(denoiser: Denoiser, shapes: Sequence[Shape], *overrides: str) -> Callable[[], object]:
    """A call that takes one step of a pack of ``shapes``: draws, forward, backward, clipping, AdamW."""
    data = random_data(denoiser)
    own = copy.deepcopy(denoiser)
    pack = Pack(Denoising(own), [make_member(number, shape, data, *overrides) for number, shape in enumerate(shapes)])
    return lambda: run_step(pack)


class PlainStep:
    """The step of one LoRA as anyone would write it: PEFT, torch's AdamW, clipping, cached latents and text states.

    Args:
        denoiser: The base; a copy is trained.
        target_modules: The preset or endings that the packs use.
        rank: Of the one adapter.
    """

    def __init__(self, denoiser: Denoiser, *, target_modules: str, rank: int = 8) -> None:
        self.denoiser = copy.deepcopy(denoiser)
        self.data = random_data(denoiser)
        self.levels = torch.tensor(denoiser.process.strata(LEVELS))
        unet: nn.Module = self.denoiser.module
        unet.add_adapter(  # type: ignore[operator]  # diffusers' mixin
            LoraConfig(r=rank, lora_alpha=rank, target_modules=self.denoiser.target_names(target_modules))
        )
        self.parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=2e-3, weight_decay=0.01)

    def __call__(self, rows: int) -> Tensor:
        """One step over ``rows`` samples; the loss."""
        denoiser = self.denoiser
        picked = torch.randint(IMAGES, (rows,))
        latents = self.data.latents[picked, torch.randint(VARIANTS, (rows,))]
        states = {name: values[picked] for name, values in self.data.captions.items()}
        process = denoiser.process
        noise, levels = torch.randn_like(latents), self.levels[torch.randint(len(self.levels), (rows,))]
        target = process.target(latents, noise, levels)
        prediction = denoiser.denoise(process.noisy(latents, noise, levels), levels, states)
        loss = functional.mse_loss(prediction.float(), target)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()
