"""The per-sample error."""

from __future__ import annotations

import pytest
import torch

from lora_foundry.objectives import mse_per_sample


def test_each_row_has_its_own_mean() -> None:
    prediction = torch.zeros(2, 1, 2, 2)
    target = torch.tensor([[1.0, 1.0, 3.0, 1.0], [2.0, 0.0, 0.0, 0.0]]).reshape(2, 1, 2, 2)
    assert mse_per_sample(prediction, target).tolist() == [3.0, 1.0]  # (1+1+9+1)/4, 4/4


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_it_is_computed_in_at_least_32_bits(given: torch.dtype, computed: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(3, 4, 8, 8, generator=generator).to(given) for _ in range(2))
    got = mse_per_sample(prediction, target)
    assert got.dtype == computed
    exact = (prediction.double() - target.double()).square().mean((1, 2, 3))
    assert torch.allclose(got.double(), exact, rtol=1e-14 if computed == torch.float64 else 1e-6)


def test_a_target_of_more_precision_is_not_cut_to_the_predictions() -> None:
    prediction = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    target = torch.full((1, 1, 1, 1), 1.001)
    assert mse_per_sample(prediction, target).item() == pytest.approx(1e-6, rel=1e-3)


def test_its_gradient_is_the_difference() -> None:
    prediction = torch.zeros(1, 1, 2, 2, requires_grad=True)
    mse_per_sample(prediction, torch.full((1, 1, 2, 2), 3.0)).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.flatten().tolist() == [-1.5] * 4  # 2 * (0 - 3) / 4


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 2, 2\) and \(2, 2\)"):
        mse_per_sample(torch.zeros(2, 1, 2, 2), torch.zeros(2, 2))
