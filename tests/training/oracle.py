"""A training step that shares no code with ``src``: a plain diffusers UNet, PEFT's own layers, torch's own optimizers.

What is random is drawn as docs/architecture.md says: by generators whose seed is a hash of (seed, purpose, index).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.optimization import get_constant_schedule_with_warmup
from diffusers.training_utils import compute_snr
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.layer import LoraLayer
from prodigyopt import Prodigy
from torch import Tensor, nn
from transformers.optimization import (
    get_cosine_with_min_lr_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from tests.training.world import DIFFUSION, plain_unet

NAME = "oracle"


def key(seed: int, purpose: str, *index: int | str) -> int:
    """The seed of a stream."""
    text = "\x1f".join([str(seed), purpose, *map(str, index)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") // 2


def stream(*of: Any) -> torch.Generator:
    """The generator of a stream."""
    return torch.Generator().manual_seed(key(*of))


def scheduler_of(prediction: str) -> DDPMScheduler:
    """Diffusers' noise schedule of the small base."""
    return DDPMScheduler(**{**DIFFUSION, "prediction_type": prediction})


def reference_rates(config: Any, total: int) -> list[float]:
    """The learning rate of each optimizer step by ``LambdaLR`` with the lambdas of diffusers and transformers.

    Theirs begin at a rate of zero, which is a step without effect: during the warm-up step s here is their s + 1.
    """
    peak, warmup, low = config.optimizer.lr, config.scheduler.warmup_steps, config.scheduler.min_lr_ratio
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = {
        "constant": lambda: get_constant_schedule_with_warmup(optimizer, warmup),
        "linear": lambda: get_polynomial_decay_schedule_with_warmup(optimizer, warmup, total, low * peak, 1.0),
        "cosine": lambda: get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, total, min_lr_rate=low),
    }[config.scheduler.name]()
    rates = []
    for _ in range(total + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return [rates[step + 1] if step < warmup else rates[step] for step in range(total)]


class _Dropout(nn.Module):
    """Stands where PEFT's dropout is: each row's mask is a hash of its own, in numpy's unsigned integers."""

    def __init__(self, layer: str, oracle: Oracle) -> None:
        super().__init__()
        self._layer, self._oracle = layer, [oracle]  # in a list, or it would be a submodule's cycle

    def forward(self, x: Tensor) -> Tensor:
        (oracle,) = self._oracle
        dropped = round(oracle.config.lora.dropout * 2**16)
        rows = []
        for row, ordinal in zip(x, oracle.rows, strict=True):
            drawn = sixteen_bits(oracle.config.seed, ordinal, self._layer, row.numel())
            kept = torch.from_numpy(drawn >= dropped - 2**15).view(row.shape)
            rows.append(torch.where(kept, row, 0) * (2**16 / (2**16 - dropped)))
        return torch.stack(rows)


def sixteen_bits(seed: int, ordinal: int, layer: str, count: int) -> NDArray[np.int16]:
    """What decides on each input of a sample in a layer: dropped where it is below 65536 times the share, - 32768."""
    x = np.uint64(key(seed, "dropout", ordinal) ^ key(0, "dropout layer", layer))
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = np.uint64(int(x ^ (x >> np.uint64(33))) * factor % 2**64)
    mixed = int(x ^ (x >> np.uint64(33)))
    factor, offset = np.uint32(mixed >> 32 | 1), np.uint32(mixed % 2**32)

    def fold(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return words ^ (words >> np.uint32(16))

    mueller = np.uint32(0x45D9F3B)
    table = fold(fold(np.arange((count + 1) // 2, dtype=np.uint32) * np.uint32(0x9E3779B1)) * mueller)
    words = fold(fold(table * factor + offset) * mueller)
    return (
        np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=1)
        .reshape(-1)[:count]
        .astype(np.uint16)
        .view(np.int16)
    )


@dataclass
class Taken:
    """What one optimizer step was."""

    loss: float
    grad_norm: float
    rate: float
    clipped: dict[str, Tensor] = field(repr=False)
    weights: dict[str, Tensor] = field(repr=False)


class Oracle:
    """Trains the adapter of ``member``, of which only configuration and data are looked at, in fp64."""

    def __init__(self, member: Any, prediction: str, rates: list[float]) -> None:
        self.config, self.train, self.rates = member.config, member.material.train, rates
        self.scheduler = scheduler_of(prediction)
        self.rows: list[int] = []
        self._ordinal, self._step = 0, 0
        self.unet: UNet2DConditionModel = plain_unet().requires_grad_(requires_grad=False).eval().double()
        self.layers = self._inject()
        self.parameters = [w for layer in self.layers.values() for w in _weights(layer)]
        self._optimizer = self._optimizer_of()

    def _inject(self) -> dict[str, LoraLayer]:
        lora = self.config.lora
        whole = {"attention": ["to_q", "to_k", "to_v", "to_out.0"]}
        whole["attention-mlp"] = [*whole["attention"], "ff.net.0.proj", "ff.net.2"]
        convs = [n for n, m in self.unet.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        targets = convs if lora.target_modules == "all" else whole.get(lora.target_modules, lora.target_modules)
        peft = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, use_rslora=lora.use_rslora)
        inject_adapter_in_model(peft, self.unet, adapter_name=NAME)
        layers = {n: m for n, m in self.unet.named_modules() if isinstance(m, LoraLayer)}
        for name, layer in layers.items():
            down, up = _weights(layer)
            torch.manual_seed(key(self.config.seed, "init", name))
            drawn = torch.empty(down.shape, dtype=torch.float32)
            if lora.init == "kaiming":
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5))  # Hu et al.'s code, and PEFT's default
            else:
                nn.init.normal_(drawn, std=1 / lora.rank)
            down.data, up.data = drawn.double(), torch.zeros_like(up, dtype=torch.float64)
            down.requires_grad_(), up.requires_grad_()
            if lora.dropout:
                layer.lora_dropout[NAME] = _Dropout(name, self)
        return layers

    def _optimizer_of(self) -> torch.optim.Optimizer:
        o = self.config.optimizer
        if o.name == "adamw":
            return torch.optim.AdamW(self.parameters, o.lr, o.betas, o.eps, o.weight_decay, fused=False)
        if o.name == "adafactor":
            return torch.optim.Adafactor(self.parameters, o.lr, eps=(None, o.eps), weight_decay=o.weight_decay)
        return Prodigy(self.parameters, o.lr, o.betas, eps=o.eps, weight_decay=o.weight_decay)

    def weights(self) -> dict[str, Tensor]:
        """As the packed bank names and shapes them."""
        return _named(self.layers, lambda weight: weight.detach())

    def step(self) -> Taken:
        """One optimizer step."""
        accumulate, limit = self.config.trainer.accumulate, self.config.trainer.max_grad_norm
        loss = 0.0
        self._optimizer.zero_grad(set_to_none=True)
        for _ in range(accumulate):
            part = self._loss() / accumulate
            part.backward()
            loss += part.item()
        norm = nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit)
        rate = self.rates[self._step]
        for group in self._optimizer.param_groups:
            group["lr"] = rate
            rate *= group.get("d", 1.0)  # Prodigy's own
        clipped = _named(self.layers, lambda weight: weight.grad)
        self._optimizer.step()
        self._step += 1
        return Taken(loss, float(norm), rate, clipped, self.weights())

    def _loss(self) -> Tensor:
        """The weighted loss of the next micro-batch, as in diffusers' examples."""
        config = self.config
        self.rows = [self._ordinal + i for i in range(config.data.batch_size)]
        self._ordinal += config.data.batch_size
        drawn = [self.sample(ordinal) for ordinal in self.rows]
        latents, noise, timesteps, states = (torch.stack([row[i] for row in drawn]) for i in range(4))
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        prediction = self.unet(noisy, timesteps, encoder_hidden_states=states).sample
        velocities = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(latents, noise, timesteps) if velocities else noise
        each = nn.functional.mse_loss(prediction, target, reduction="none").mean(dim=(1, 2, 3))
        if config.objective.snr_gamma is not None:
            ratio = compute_snr(self.scheduler, timesteps).double()
            weight = torch.stack([ratio, torch.full_like(ratio, config.objective.snr_gamma)], dim=1).min(dim=1)[0]
            each = each * weight / (ratio + 1 if velocities else ratio)
        return each.mean()

    def sample(self, ordinal: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents, noise, timestep and text states of one sample."""
        seed, data = self.config.seed, self.config.data
        count = len(self.train.latents)
        image = int(torch.randperm(count, generator=stream(seed, "shuffle", ordinal // count))[ordinal % count])
        mirrored = key(seed, "flip", ordinal) % 2 if data.flip else 0
        latents = self.train.latents[image, mirrored].double()
        noise = torch.randn(latents.shape, generator=stream(seed, "noise", ordinal)).double()
        if self.config.objective.noise_offset:
            channels = torch.randn(latents.shape[:1], generator=stream(seed, "noise_offset", ordinal)).double()
            noise = noise + self.config.objective.noise_offset * channels[:, None, None]
        timestep = torch.randint(0, 1000, (), generator=stream(seed, "timestep", ordinal))
        states = self.train.captions["encoder_hidden_states"]
        empty = key(seed, "caption", ordinal) / 2**63 < data.caption_dropout
        text = states[-1] if empty else states[self.train.caption_index[image]]
        return latents, noise, timestep, text.double()


def _weights(layer: LoraLayer) -> tuple[nn.Parameter, nn.Parameter]:
    return layer.lora_A[NAME].weight, layer.lora_B[NAME].weight


def _named(layers: dict[str, LoraLayer], of: Any) -> dict[str, Tensor]:
    named = {}
    for name, layer in layers.items():
        down, up = _weights(layer)
        named[f"{name}.A"] = of(down).clone()
        named[f"{name}.B"] = of(up).clone().flatten(1).transpose(0, 1)
    return named
