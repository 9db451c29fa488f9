"""What each of Lightning's precision names means here, and torch's switches that go with it."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from lora_foundry.config.surroundings import CUBLAS, CUBLAS_REPEATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_foundry.config.schema import Precision, TrainerConfig


@dataclass(frozen=True, slots=True)
class Dtypes:
    """The base's dtype (weights and activations) and the adapters' (weights, gradients, optimizer state)."""

    base: torch.dtype
    adapter: torch.dtype

    @property
    def scaled(self) -> bool:
        """Whether losses are scaled, so that small gradients are no zeros (:mod:`lora_foundry.training.loss_scale`)."""
        return self.base == torch.float16

    @property
    def tf32(self) -> bool:
        """Whether a card may round what it multiplies to TF32's 10 bits of mantissa: a 32-bit base's alone."""
        return self.base == torch.float32

    def decides(self, device: torch.device) -> dict[str, object]:
        """What of the numbers that ``device`` computes is decided here: part of the keys by which they are kept."""
        rounded = {"products": "tf32"} if self.tf32 and device.type == "cuda" else {}
        return {"dtypes": [str(self.base), str(self.adapter)], **rounded}


# No autocast anywhere: it would keep the base's fp32 weights and a bf16 copy of each beside them. So Lightning's
# 16-true, which is fp16 without a loss scale, is nobody's: adapters are fp32, and losses are scaled.
DTYPES: dict[Precision, Dtypes] = {
    "32-true": Dtypes(torch.float32, torch.float32),
    "16-mixed": Dtypes(torch.float16, torch.float32),
    "bf16-true": Dtypes(torch.bfloat16, torch.float32),
    "bf16-mixed": Dtypes(torch.bfloat16, torch.float32),
    "64-true": Dtypes(torch.float64, torch.float64),
}


@contextmanager
def computing(trainer: TrainerConfig, device: torch.device) -> Iterator[None]:
    """Torch's switches for packs of one kind, as they were before at the end.

    A 32-bit base multiplies in TF32 on cards that have it. ``trainer.deterministic`` takes kernels that give the same
    bits in every repeat, and ends a step that has none.
    """
    dtypes = DTYPES[trainer.precision]
    # Convolutions in TF32 are torch's own default: beside a 16-bit base, the VAE's that draws.
    products = _products(matrices=dtypes.tf32, convolutions=dtypes.base != torch.float64)
    with products if device.type == "cuda" else nullcontext(), _repeating(trainer.deterministic):
        yield


@contextmanager
def exact() -> Iterator[None]:
    """32-bit numbers are multiplied as such, whatever packs do: for what is kept, and what files are held against."""
    with _products(matrices=False, convolutions=False):
        yield


@contextmanager
def _products(*, matrices: bool, convolutions: bool) -> Iterator[None]:
    """Whether cards multiply in TF32.

    By the older of torch's two sets of switches: Lightning and ``cudnn.flags`` read those, and reading them raises
    where the newer ones (``fp32_precision``) were set.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if matrices else "highest")
    cudnn.allow_tf32 = convolutions
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]


@contextmanager
def _repeating(repeats: bool) -> Iterator[None]:  # noqa: FBT001
    if not repeats:
        yield
        return
    cudnn, filled = torch.backends.cudnn, cast("Any", torch.utils.deterministic)
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, filled.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True)
    cudnn.deterministic = True
    filled.fill_uninitialized_memory = False  # it finds a program's own faults, for a pass over all that is allocated
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0])
        cudnn.deterministic, filled.fill_uninitialized_memory = before[1:]


def cannot_repeat(trainer: TrainerConfig, device: torch.device) -> str | None:
    """Why ``trainer.deterministic`` cannot be kept on ``device``; null where it can."""
    got = os.environ.get(CUBLAS)
    if not trainer.deterministic or device.type != "cuda" or got in CUBLAS_REPEATS:
        return None
    return (
        f"trainer.deterministic=true with {CUBLAS}={got!r} in the environment, allowed is "
        f"{' or '.join(CUBLAS_REPEATS)}: unset it, and a worker is started with the first"
    )
