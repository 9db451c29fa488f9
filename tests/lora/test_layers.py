"""A packed layer in the precisions of a base, with scales, dropout and whatever else it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lora_foundry.lora.bank import AdapterBank
from lora_foundry.lora.dropout import DropoutKey
from lora_foundry.lora.kinds.lora import layers
from lora_foundry.lora.rows import RowPlan
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.work import Work
from tests.lora.counted import Counted
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
        got.sum().backward()
    assert got.dtype == torch.bfloat16
    expected = torch.cat(
        [_update(bank, layer, x[: counts[0]], "a", 1.0), _update(bank, layer, x[counts[0] :], "b", 1.0)]
    )
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.1)  # bf16 keeps three digits
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
        module.stack = None  # PEFT's own forward
        module(x, 3, more=4)
    assert given == [((3,), {"more": 4})]


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card."""
    monkeypatch.setattr(layers, "is_dense", lambda *_: True)


def _conv_gradients(counts: tuple[int, ...], places: tuple[int, ...], *, dropped: bool) -> tuple[Tensor, ...]:
    bank = make_bank({"a": spec(2, alpha=3.0), "b": spec(3), "c": spec(1)})
    keys = [DropoutKey(seed=1, ordinal=o, probability=0.3) for o in range(sum(counts))]
    x = _input("conv", sum(counts)).requires_grad_()
    with bank.rows(RowPlan(places=places, counts=counts, scale=0.5, dropout=tuple(keys) if dropped else ())):
        y = bank.base.conv(x)
        y.square().sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad, bank.gradients


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize(("counts", "places"), [((1, 1, 1), (0, 1, 2)), ((2, 1), (2, 0)), ((2,), (1,))])
def test_a_dense_convolution_is_one_in_groups(
    counts: tuple[int, ...], places: tuple[int, ...], dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for how in (True, False):
        monkeypatch.setattr(layers, "is_dense", lambda *_, how=how: how)
        made.append(_conv_gradients(counts, places, dropped=dropped))
    for one, other in zip(*made, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("where", ["inputs", "weights", "gradient"])
@pytest.mark.usefixtures("dense")
def test_what_is_not_finite_stays_with_its_member_in_a_dense_convolution(where: str) -> None:
    def gradients(*, harmed: bool) -> tuple[Tensor, Tensor]:
        bank = make_bank({"a": spec(2), "b": spec(3)})
        x = _input("conv", 2)
        if harmed and where == "inputs":
            x[0, 0, 0, 0] = torch.nan
        if harmed and where == "weights":
            bank.unpack(bank.weights[0], "a")["conv.A"].fill_(torch.inf)
        x.requires_grad_()
        with bank.rows(RowPlan(places=(0, 1), counts=(1, 1))):
            losses = bank.base.conv(x).square().sum(dim=(1, 2, 3))
            (losses * torch.tensor([torch.inf if harmed and where == "gradient" else 1.0, 1.0])).sum().backward()
        assert x.grad is not None
        return bank.gradients[1], x.grad[1]

    for one, other in zip(gradients(harmed=True), gradients(harmed=False), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("layer", "dropped", "most"), [("linear", False, 7), ("linear", True, 17), ("conv", False, 6), ("conv", True, 16)]
)
@pytest.mark.parametrize("rows", [1, 4])
def test_a_layers_kernels_are_few_and_do_not_grow_with_rows(layer: str, dropped: bool, most: int, rows: int) -> None:
    """Of forward and backward beyond the base's; ``bench.host`` counts them at the real size."""
    bank = make_bank({"a": spec(2)}, base=torch.bfloat16, dtype=torch.float32)
    keys = tuple(DropoutKey(seed=1, ordinal=o, probability=0.1) for o in range(rows))
    plan = RowPlan(places=(0,), counts=(rows,), dropout=keys if dropped else ())
    module, x = getattr(bank.base, layer), _input(layer, rows).bfloat16().requires_grad_()

    def kernels(run: Callable[[Tensor], Tensor]) -> int:
        work, grad, x.grad = Work(), torch.ones_like(module.get_base_layer()(x)), None
        with Tally(grain=1, work=work):
            run(x).backward(grad)
        return work.ops

    with bank.rows(plan):
        kernels(module)  # what is made once a bank and once a plan is there
        for leaf in module.stack.forward().parts[layer].values():
            leaf.grad = None
        own = kernels(module) - kernels(module.get_base_layer())
    sums = 1 if rows > 1 and layer == "conv" else 0  # of B's gradients over the rows
    assert own == most + sums


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dims", [2, 3, 4])
def test_an_update_is_added_where_the_bases_layer_left_its_result(bias: bool, dims: int) -> None:
    bank = make_bank({"a": spec(2, "linear"), "b": spec(3, "linear")})
    layer = bank.base.linear.get_base_layer()
    if not bias:
        layer.bias = None
    x = torch.randn(2, *(3, 5)[: dims - 2], 6, dtype=torch.float64, requires_grad=True)
    with Counted() as counted, bank.rows(RowPlan(places=(0, 1), counts=(1, 1))):
        got = bank.base.linear(x)
        got.square().sum().backward()
    assert counted.of(torch.ops.aten.baddbmm_) == 1
    assert not counted.of(torch.ops.aten.baddbmm)
    with torch.no_grad():
        made = layer(x)
        for row, name in enumerate("ab"):
            parts = bank.state(name)
            made[row] += x[row] @ parts["linear.A"].T @ parts["linear.B"]
    torch.testing.assert_close(got, made)
    assert x.grad is not None
    assert x.grad.shape == x.shape
