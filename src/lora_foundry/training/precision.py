"""What each of Lightning's precision names means here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lora_foundry.config.schema import Precision


@dataclass(frozen=True, slots=True)
class Dtypes:
    """The base's dtype (weights and activations) and the adapters' (weights, gradients, optimizer state)."""

    base: torch.dtype
    adapter: torch.dtype


# No autocast anywhere: it would keep the base's fp32 weights and a bf16 copy of each beside them.
DTYPES: dict[Precision, Dtypes] = {
    "32-true": Dtypes(torch.float32, torch.float32),
    "bf16-true": Dtypes(torch.bfloat16, torch.float32),
    "bf16-mixed": Dtypes(torch.bfloat16, torch.float32),
    "64-true": Dtypes(torch.float64, torch.float64),
}
