"""LoRA dropout: the same masks as another implementation's, statistically sound, and whoever draws them again."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lora_foundry.lora.dropout import Dropout, DropoutKey, Masks
from lora_foundry.lora.rows import RowPlan
from tests.lora.small import make_bank, spec
from tests.training.oracle import sixteen_bits

LAYERS = ("down_blocks.0.attn.to_q", "down_blocks.0.attn.to_k", "mid_block.attn.to_q")
CPU = torch.device("cpu")
# From this function on 2026-11-28, and the same of numpy's unsigned integers: a change would change adapters half-way.
GOLDEN = [
    ((7, 3, "linear"), [-24931, 3690, -27897, 16650, 28966, 31695, 19239, 17375, -9172]),
    ((2**40, 0, "down.0"), [17314, 6414, -9168, 22970]),
]


def _keys(*ordinals: int, p: float = 0.4, seed: int = 7) -> tuple[DropoutKey, ...]:
    return tuple(DropoutKey(seed=seed, ordinal=ordinal, probability=p) for ordinal in ordinals)


def _drawn(*ordinals: int, p: float = 0.5, seed: int = 7, count: int = 2**18, layer: str = LAYERS[0]) -> Tensor:
    """Which of ``count`` inputs of each of those samples are kept."""
    return Dropout(LAYERS, CPU).begin(_keys(*ordinals, p=p, seed=seed)).keep(layer, torch.empty(len(ordinals), count))


@pytest.mark.parametrize(("named", "numbers"), GOLDEN)
def test_golden_numbers_do_not_move(named: tuple[int, int, str], numbers: list[int]) -> None:
    """Found by asking for every share: the least at which an element is dropped is one above its number."""
    assert sixteen_bits(*named, len(numbers)).tolist() == numbers
    seed, ordinal, layer = named
    source, x = Dropout([layer], CPU), torch.empty(1, len(numbers))
    for index, number in enumerate(numbers):
        for share, kept in ((number + 2**15, True), (number + 2**15 + 1, False)):
            key = DropoutKey(seed=seed, ordinal=ordinal, probability=share / 2**16)
            assert bool(source.begin([key]).keep(layer, x)[0, index]) is kept


@pytest.mark.parametrize("shape", [(7,), (5, 333), (4, 8, 8), (1,)])
@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.99])
def test_masks_are_those_of_unsigned_integers(p: float, shape: tuple[int, ...]) -> None:
    masks = Dropout(LAYERS, CPU).begin(_keys(3, 4, 2**50, p=p))
    for layer in LAYERS:
        kept = masks.keep(layer, torch.empty(3, *shape))
        assert kept.shape == (3, *shape)
        for row, ordinal in zip(kept, (3, 4, 2**50), strict=True):
            expected = sixteen_bits(7, ordinal, layer, row.numel()) >= round(p * 2**16) - 2**15
            assert np.array_equal(row.flatten().numpy(), expected)


def test_a_mask_is_of_the_sample_and_the_layer_alone() -> None:
    source, x = Dropout(LAYERS, CPU), torch.empty(3, 50, 6)
    together = source.begin(_keys(4, 5, 6))
    first = together.keep(LAYERS[1], x)
    assert torch.equal(together.keep(LAYERS[1], x), first), "drawn again, it is the same"
    apart = Dropout(LAYERS[1:2], CPU).begin(_keys(6, 4)).keep(LAYERS[1], x[:2])
    assert torch.equal(first[2], apart[0])
    assert torch.equal(first[0], apart[1])


@pytest.mark.parametrize("p", [0.0, 0.001, 0.1, 0.5, 0.9, 0.99])
def test_so_many_are_dropped_as_asked(p: float) -> None:
    dropped = ~_drawn(*range(8), p=p)
    share = round(p * 2**16) / 2**16
    each = (share * (1 - share) / dropped.shape[1]) ** 0.5
    assert float((dropped.double().mean(dim=1) - share).abs().max()) <= 4.5 * each  # 5e-5 by chance in all


def _correlated(one: Tensor, other: Tensor) -> float:
    """In standard deviations of what independent draws of a half show."""
    signs = (one ^ other).double() * 2 - 1
    return abs(float(signs.mean())) * len(signs) ** 0.5


def test_samples_layers_and_seeds_are_independent() -> None:
    rows = [*_drawn(0, 1, 2, 3), *_drawn(0, layer=LAYERS[1]), *_drawn(0, layer=LAYERS[2]), *_drawn(0, 1, seed=8)]
    assert max(_correlated(one, other) for one, other in combinations(rows, 2)) < 4.5


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 7, 8, 64, 320, 1280, 2**15, 2**16, 2**17])
def test_neighbours_are_independent(lag: int) -> None:
    for row in _drawn(0, 1):
        assert _correlated(row[:-lag], row[lag:]) < 4.5


def test_eight_neighbours_show_every_pattern_as_often() -> None:
    """Chi-square of 256 classes: 255 on average, 22.6 the standard deviation."""
    weights = 2 ** torch.arange(8)
    for row in _drawn(0, 1, 2):
        seen = torch.bincount((row.view(-1, 8) * weights).sum(dim=1), minlength=256).double()
        assert float(((seen - seen.mean()) ** 2 / seen.mean()).sum()) == pytest.approx(255, abs=4.5 * 22.6)


def test_an_element_is_dropped_by_as_many_samples_as_asked() -> None:
    """No place of a layer is luckier than others over the samples of a training."""
    often = (~_drawn(*range(2000), p=0.1, count=256)).double().mean(dim=0)
    share = round(0.1 * 2**16) / 2**16
    apart = (often - share) / (share * (1 - share) / 2000) ** 0.5
    assert float(apart.abs().max()) < 4.5
    assert float(apart.square().mean()) == pytest.approx(1, abs=4.5 * (2 / 256) ** 0.5)


class _NoGenerator(TorchDispatchMode):
    """Ends what draws from a generator, or waits for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert torch.Tag.nondeterministic_seeded not in func.tags, func
        assert func.overloadpacket is not torch.ops.aten._local_scalar_dense
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_a_layer_drops_each_rows_own_inputs(layer: str) -> None:
    bank = make_bank({"a": spec(2), "b": spec(3, alpha=6.0)})
    x = torch.ones(3, 4, 6) if layer == "linear" else torch.ones(3, 4, 9, 9)
    x = x.double()
    keys = (*_keys(4, 5), *_keys(5, p=0.0))
    module = getattr(bank.base, layer)
    with bank.rows(RowPlan(places=(0, 1), counts=(2, 1), dropout=keys)), _NoGenerator():
        got = module(x)
    source = Dropout([span.name for span in bank.spans], CPU).begin(keys)
    strengths = torch.tensor([key.strength for key in keys], dtype=torch.float64)
    dropped = x * source.keep(layer, x) * strengths.view(3, *[1] * (x.ndim - 1))
    base = module.get_base_layer()(x)
    for row, place in enumerate((0, 0, 1)):
        with bank.rows(RowPlan(places=(place,), counts=(1,))):
            update = module(dropped[row : row + 1]) - module.get_base_layer()(dropped[row : row + 1])
        torch.testing.assert_close(got[row], base[row] + update[0], rtol=1e-12, atol=1e-12)
    assert strengths.tolist() == pytest.approx([1 / 0.6, 1 / 0.6, 1], rel=1e-4)
    assert source.keep(layer, x)[2].all()


def test_recomputed_activations_are_dropped_alike() -> None:
    def gradients(*, recomputed: bool) -> Tensor:
        bank = make_bank({"a": spec(2), "b": spec(3)})
        x = torch.randn(4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with bank.rows(RowPlan(places=(0, 1), counts=(2, 2), dropout=_keys(*range(4)))):
            layer = bank.base.linear
            y = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False) if recomputed else layer(x)
            y.square().sum().backward()
        return bank.gradients

    assert torch.equal(gradients(recomputed=True), gradients(recomputed=False))
    assert gradients(recomputed=True).any()


def test_the_table_grows_with_the_layers() -> None:
    masks = Dropout(LAYERS, CPU).begin(_keys(1))
    small = masks.keep(LAYERS[0], torch.empty(1, 10))
    large = masks.keep(LAYERS[0], torch.empty(1, 1001))
    assert torch.equal(large[:, :10], small)
    assert isinstance(masks, Masks)
