"""Attention is traced by the kernel that a device will choose."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import Precision
from lora_foundry.memory import predict as prediction
from lora_foundry.memory.attention import Attention, attention_of
from lora_foundry.memory.trace import trace_step
from lora_foundry.models.opening import open_sizes


@pytest.mark.parametrize(
    ("precision", "capability", "expected"),
    [
        ("16-mixed", (7, 5), "fused"),
        ("16-mixed", (7, 0), "fused"),
        ("32-true", (7, 5), "fused"),
        ("bf16-mixed", (7, 5), "scores"),
        ("bf16-mixed", (8, 0), "fused"),
        ("bf16-true", (12, 0), "fused"),
        ("32-true", (9, 0), "fused"),
        ("64-true", (9, 0), "scores"),
        ("64-true", None, "scores"),
        ("bf16-mixed", None, "fused"),
        ("16-mixed", (3, 7), "scores"),
    ],
)
def test_what_a_card_chooses(precision: Precision, capability: tuple[int, int] | None, expected: Attention) -> None:
    """As ``can_use_flash_attention`` and ``can_use_mem_efficient_attention`` of torch 2.13 decide."""
    assert attention_of(precision, card=True, capability=capability) == expected
    assert attention_of(precision, card=False, capability=capability) == "fused"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_cpus_own_kernel_takes_every_dtype(dtype: torch.dtype) -> None:
    tensors = [torch.zeros(1, 1, 8, 8, dtype=dtype, requires_grad=True) for _ in range(3)]
    made = scaled_dot_product_attention(*tensors)
    assert type(made.grad_fn).__name__ == "ScaledDotProductFlashAttentionForCpuBackward0"


@pytest.mark.slow
def test_where_scores_are_kept_a_trace_has_them() -> None:
    config = compose_job("data.resolution=64", "trainer.precision=32-true", "lora.target_modules=attention")
    sizes = open_sizes(config.model)
    fused, kept = (trace_step(sizes, config, [2], kind).steps[2].peak for kind in ("fused", "scores"))
    unet = sizes._configs["unet"]  # type: ignore[attr-defined]
    assert unet["down_block_types"][0] == "DownBlock2D", "attention begins at half the side"
    positions = (config.data.resolution // sizes.pixels_per_cell // 2) ** 2
    least = 2 * unet["attention_head_dim"] * positions**2 * 4  # rows x heads x pairs x bytes, of one layer alone
    assert kept - fused > least


@pytest.mark.slow
def test_the_kernel_is_in_the_key_of_a_trace(tmp_path: Path) -> None:
    config = compose_job(f"data.cache_dir={tmp_path}", "trainer.precision=bf16-mixed")
    sizes = open_sizes(config.model)
    names = {kind: prediction._path(config, sizes, kind).name for kind in ("fused", "scores", None)}  # type: ignore[arg-type]
    assert names["fused"] == names[None] != names["scores"]
