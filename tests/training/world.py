"""A base, data and members small enough to train in milliseconds; nothing in it is mocked."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from lora_foundry.config import JobConfig
from lora_foundry.config.compose import compose_job
from lora_foundry.config.length import total_steps
from lora_foundry.data.encoding import EncodedData
from lora_foundry.data.order import SampleOrder
from lora_foundry.data.records import Record
from lora_foundry.models.families.sd.denoiser import SdDenoiser
from lora_foundry.tasks.denoising import Denoising, Material
from lora_foundry.training.checkpoint import Part, load_newest
from lora_foundry.training.fit import train_pack
from lora_foundry.training.member import Member, Provenance
from lora_foundry.training.precision import DTYPES
from lora_foundry.training.sink import ListSink
from lora_foundry.wire.events import Event, StateEvent

WIDTH = 16
DATA_HASH = "d" * 64
QUICK = (
    "sample=none",
    "trainer.max_steps=8",
    "trainer.precision=64-true",
    "trainer.accelerator=cpu",
    "validation.every=null",
    "validation.timesteps=2",
    "validation.max_images=2",
    "scheduler.warmup_steps=2",
    "data.batch_size=2",
    "data.flip=true",
    "lora.rank=4",
    "lora.target_modules=[to_q,to_v,ff.net.2]",
)


DIFFUSION = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear"}


@cache
def _state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {k: v.clone() for k, v in _unet().state_dict().items()}


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        mid_block_type=None,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def plain_unet() -> UNet2DConditionModel:
    """The small base as diffusers makes it, always of the same weights."""
    unet = _unet()
    unet.load_state_dict(_state())
    return unet


def make_denoiser(
    dtype: torch.dtype = torch.float64, *, checkpointing: bool = False, predicts: str = "v_prediction"
) -> SdDenoiser:
    """An untrained UNet, always of the same weights."""
    unet = plain_unet().requires_grad_(requires_grad=False).eval()
    for tensor in (*unet.parameters(), *unet.buffers()):
        tensor.data = tensor.data.to(dtype)
    return SdDenoiser(unet, {**DIFFUSION, "prediction_type": predicts}, "auto", gradient_checkpointing=checkpointing)


def make_task(*args: Any, **options: Any) -> Denoising:
    """Denoising with :func:`make_denoiser`; it draws nothing."""
    return Denoising(make_denoiser(*args, **options), NoDecoder())


def make_data(n_images: int = 6, *, seed: int = 0, variants: int = 2) -> EncodedData:
    """Random latents and text states."""
    draw = torch.Generator().manual_seed(seed)
    records = tuple(
        Record(image=Path(f"{i}.png"), caption=f"thing {i}", digest=hashlib.sha256(f"{seed}/{i}".encode()).hexdigest())
        for i in range(n_images)
    )
    return EncodedData(
        latents=torch.randn(n_images, variants, 4, 8, 8, generator=draw),
        captions={"encoder_hidden_states": torch.randn(n_images + 1, 5, WIDTH, generator=draw)},
        caption_index=torch.arange(n_images),
        records=records,
    )


@cache  # a quarter of a second each, and frozen
def _composed(*overrides: str) -> JobConfig:
    return compose_job(*QUICK, *overrides)


@dataclass(frozen=True)
class Spec:
    """A member to be made: its name, what it overrides, and its data."""

    name: str
    overrides: tuple[str, ...] = ()
    n_images: int = 6
    poisoned: int | None = None  # this image's latents are not finite

    def config(self) -> JobConfig:
        """The composed job."""
        return _composed(*self.overrides)


def make_member(spec: Spec, folder: Path, job: int = 0) -> Member:
    """A member as the worker would make it."""
    config, train = spec.config(), make_data(spec.n_images, seed=1)
    if spec.poisoned is not None:
        train.latents[spec.poisoned] = math.nan
    return Member(
        job=job,
        name=spec.name,
        folder=folder / spec.name,
        config=config,
        material=Material(train=train, validation=make_data(3, seed=2, variants=1)),
        provenance=Provenance(base_hash="b" * 64, data_hash=DATA_HASH, started_at=1.0),
        order=SampleOrder.of(config.data, seed=config.seed, n_images=spec.n_images),
        total_steps=total_steps(config, spec.n_images),
    )


@dataclass(frozen=True)
class Trained:
    """What a training left behind."""

    parts: dict[str, Part]
    events: list[Event]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """The member's final adapter."""
        return self.parts[name].weights

    def states(self, job: int) -> list[str]:
        """The states that a job went through."""
        return [e.state for e in self.events if isinstance(e, StateEvent) and e.job == job]


def train(specs: list[Spec], root: Path, **options: Any) -> Trained:
    """Train ``specs`` as one pack and read their final checkpoints."""
    config = specs[0].config()
    members = [make_member(spec, root, job) for job, spec in enumerate(specs)]
    sink = ListSink(root)
    denoiser = options.pop("denoiser", None) or make_denoiser(
        DTYPES[config.trainer.precision].base, checkpointing=config.trainer.gradient_checkpointing
    )
    train_pack(Denoising(denoiser, NoDecoder()), members, sink=sink, folder=root / "pack", **options)
    parts = {m.name: load_newest(m.folder / "checkpoints")[0] for m in members if (m.folder / "checkpoints").exists()}
    return Trained(parts=parts, events=sink.events)


@cache
def undisturbed(*specs: Spec) -> Trained:
    """``train(specs)`` to be compared with: it always gives the same, so it is trained once for all tests of a process.

    What a test sets for its time only, a clock say, must not change it.
    """
    with TemporaryDirectory() as folder:
        return train([*specs], Path(folder))


class NoDecoder:
    """Stands where a decoder would: these trainings draw nothing."""

    pixels_per_cell = 8

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Never called, since ``sample=none``."""
        raise AssertionError(latents.shape)

    def leave(self) -> None:
        """Nothing to move."""

    def close(self) -> None:
        """Nothing to close."""


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest relative distance in norm over all tensors."""
    assert one.keys() == other.keys()
    assert one, "nothing to compare"
    return max(
        float((one[k].double() - other[k].double()).norm() / other[k].double().norm().clamp_min(1e-30)) for k in one
    )
