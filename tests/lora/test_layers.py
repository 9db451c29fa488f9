"""A packed layer in the precisions of a base, with scales, dropout and whatever else it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lora_foundry.lora.bank import AdapterBank
from lora_foundry.lora.rows import RowPlan
from tests.lora.small import make_bank, spec


def _update(bank: AdapterBank, layer: str, x: Tensor, member: str, scale: float) -> Tensor:
    """``x`` under the base's layer and the member's matrices, each by its own torch call."""
    weights = bank.unpack(bank.weights[bank.place(member)], member)
    down, up = (weights[f"{layer}.{part}"].to(x.dtype) for part in "AB")
    inner = getattr(bank.base, layer).get_base_layer()
    if isinstance(inner, nn.Linear):
        return inner(x) + scale * (x @ down.T @ up)
    hidden = functional.conv2d(x, down, None, inner.stride, inner.padding, inner.dilation)
    return inner(x) + scale * functional.conv2d(hidden, up.T[..., None, None])


def _input(layer: str, rows: int) -> Tensor:
    shape = (rows, 5, 6) if layer in ("linear", "twin") else (rows, 4, 9, 7)
    return torch.randn(shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("layer", ["linear", "conv", "point", "dilated"])
def test_the_plans_scale_multiplies_alpha_over_rank(layer: str, scale: float) -> None:
    for alpha in (2.0, 3.0):  # of rank 2: a bank of scale 1, and one of 1.5
        bank, x = make_bank({name: spec(2, layer, alpha=alpha) for name in "ab"}), _input(layer, 4)
        with bank.rows(RowPlan(places=(0, 1), counts=(2, 2), scale=scale)):
            got = getattr(bank.base, layer)(x)
        for member, rows in (("a", slice(0, 2)), ("b", slice(2, 4))):
            torch.testing.assert_close(got[rows], _update(bank, layer, x[rows], member, scale * alpha / 2))


def test_some_of_the_members_where_rank_and_count_are_alike() -> None:
    bank, x = make_bank({name: spec(2) for name in "abc"}), _input("linear", 2)
    with bank.rows(RowPlan(places=(0, 1), counts=(1, 1))):
        got = bank.base.linear(x)
    for row, member in enumerate("ab"):
        torch.testing.assert_close(got[row], _update(bank, "linear", x[row], member, 1.0))


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize("counts", [(1, 1), (1, 2)])
def test_adapters_in_fp32_are_computed_in_the_bases_precision(layer: str, counts: tuple[int, int]) -> None:
    bank = make_bank({"a": spec(2), "b": spec(3)}, base=torch.bfloat16, dtype=torch.float32)
    x = _input(layer, sum(counts)).bfloat16()
    with bank.rows(RowPlan(places=(0, 1), counts=counts)):
        got = getattr(bank.base, layer)(x)
    assert got.dtype == torch.bfloat16
    expected = torch.cat(
        [_update(bank, layer, x[: counts[0]], "a", 1.0), _update(bank, layer, x[counts[0] :], "b", 1.0)]
    )
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.1)  # bf16 keeps three digits
    got.sum().backward()
    assert bank.gradients.dtype == torch.float32
    assert bank.gradients.any(dim=1).all()


@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_a_wrong_number_of_rows_is_named_with_its_layer(layer: str) -> None:
    bank = make_bank({"a": spec(2)})
    said = rf"^layer {layer}: got 3 rows, allowed is the plan's 2$"
    with bank.rows(RowPlan(places=(0,), counts=(2,))), pytest.raises(ValueError, match=said):
        getattr(bank.base, layer)(_input(layer, 3))


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_what_else_a_layer_is_given_goes_to_the_base(
    layer: str, planned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, x, given = make_bank({"a": spec(2)}), _input(layer, 1), []
    module = getattr(bank.base, layer)
    inner = module.get_base_layer()
    whole = inner.forward

    def recorded(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given.append((args, kwargs))
        return whole(x)

    monkeypatch.setattr(inner, "forward", recorded)
    if planned:
        with bank.rows(RowPlan(places=(0,), counts=(1,))):
            module(x, 3, more=4)
    else:
        bank.release()  # PEFT's own forward
        module(x, 3, more=4)
    assert given == [((3,), {"more": 4})]
