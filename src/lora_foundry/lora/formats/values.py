"""Whether an adapter's numbers can be gone on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lora_foundry.lora.formats.adapter import Adapter


def value_problems(adapter: Adapter) -> list[str]:
    """A line for each kind of number that makes an adapter unusable; empty when it is sound."""
    problems = []
    broken = [
        f"{component}.{name}"
        for component, name, weights in adapter.modules()
        for tensor in (weights.down, weights.up)
        if not torch.isfinite(tensor).all()
    ]
    if broken:
        problems.append(
            f"NaN or infinity in {len(broken)} of its tensors (first in {broken[0]}): the training that wrote it "
            "diverged; take an earlier file"
        )
    still = [f"{component}.{name}" for component, name, weights in adapter.modules() if weights.alpha == 0]
    if still:
        problems.append(
            f"alpha is 0 in {len(still)} of its layers (first in {still[0]}), so they change nothing; "
            "allowed is another number than 0"
        )
    return problems
