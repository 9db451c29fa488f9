"""An update at another rank: nothing is lost going up, and the least going down."""

from __future__ import annotations

import pytest
import torch

from lora_foundry.lora.resize import larger, smaller


def update(rank: int = 6, shape: tuple[int, ...] = (9,)) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(4)
    down = torch.randn(rank, *shape, generator=draw, dtype=torch.float64)
    return down, torch.randn(11, rank, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(9,), (4, 3, 3)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_smaller_rank_is_the_best_approximation_there_is(rank: int, shape: tuple[int, ...]) -> None:
    down, up = update(shape=shape)
    made = smaller(down, up, rank)
    assert made.down.shape == (rank, *shape)
    whole = up @ down.flatten(1)
    values = torch.linalg.svdvals(whole)  # Eckart & Young 1936: nothing of this rank is nearer
    apart = (whole - made.up @ made.down.flatten(1)).norm()
    assert float(apart) == pytest.approx(float(values[rank:].norm()), rel=1e-9)
    assert made.lost == pytest.approx(float(apart) ** 2, rel=1e-9)
    assert made.whole == pytest.approx(float(whole.norm()) ** 2, rel=1e-9)


def test_a_larger_rank_is_the_same_update_and_its_new_rows_can_learn() -> None:
    down, up = update()
    fresh = torch.randn(8, 9, dtype=torch.float64)
    made = larger(down, up, fresh)
    assert torch.allclose(made.up @ made.down, up @ down, rtol=0, atol=1e-14)
    assert torch.equal(made.down[6:], fresh[6:])  # with zeros in both halves a row would have no gradient for ever
    assert not made.up[:, 6:].any()
    assert made.lost == 0


def test_a_layer_with_fewer_outputs_than_the_rank_is_padded() -> None:
    down, up = update(rank=20)
    made = smaller(down, up, 15)
    assert (made.down.shape, made.up.shape) == ((15, 9), (11, 15))
    assert torch.allclose(made.up @ made.down, up @ down)
