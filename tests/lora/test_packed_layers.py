"""One packed layer against the formula, written out row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from lora_foundry.lora.bank import AdapterBank, clear
from lora_foundry.lora.inject import AdapterSpec, handle, inject, packed_layers
from lora_foundry.lora.rows import RowPlan

RANKS = {"a": 3, "b": 1, "c": 5}


class Layers(nn.Module):
    """A linear layer, a strided convolution and a 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 10)
        self.conv = nn.Conv2d(4, 7, 3, stride=2, padding=1)
        self.point = nn.Conv2d(4, 5, 1)
        self.twin = nn.Linear(6, 10)


@pytest.fixture
def bank() -> AdapterBank:
    torch.manual_seed(0)
    base = Layers().double().requires_grad_(requires_grad=False)
    for name, rank in RANKS.items():
        targets = ("linear", "conv", "point") if name != "b" else ("linear", "conv")
        spec = AdapterSpec(
            kind="lora",
            rank=rank,
            alpha=2.0 * rank,
            dropout=0.0,
            targets=targets,
            use_rslora=name == "c",
            init="kaiming",
            seed=1,
        )
        inject(base, name, spec)
    bank = AdapterBank(base, list(RANKS), dtype=torch.float64, device=torch.device("cpu"))
    for name in RANKS:
        for value in bank.unpack(bank.weights[bank.place(name)], name).values():
            value.copy_(torch.randn(value.shape, dtype=torch.float64))
    return bank


def _expected(bank: AdapterBank, layer: str, x: Tensor, plan: RowPlan) -> Tensor:
    module = getattr(bank.base, layer)
    inner = module.get_base_layer()
    rows = [
        member
        for place, count in zip(plan.places, plan.counts, strict=True)
        for member in [bank.members[place]] * count
    ]
    outputs = []
    for row, member in zip(x, rows, strict=True):
        result = inner(row[None])
        weights = bank.unpack(bank.weights[bank.place(member)], member)
        if f"{layer}.A" in weights:
            down, up = weights[f"{layer}.A"], weights[f"{layer}.B"].T
            scale = plan.scale * 2.0 * RANKS[member] / (RANKS[member] ** 0.5 if member == "c" else RANKS[member])
            if isinstance(inner, nn.Linear):
                result = result + scale * (row[None] @ down.T @ up.T)
            else:
                hidden = functional.conv2d(row[None], down, stride=inner.stride, padding=inner.padding)
                result = result + scale * functional.conv2d(hidden, up[..., None, None])
        outputs.append(result)
    return torch.cat(outputs)


PLANS = {
    "all members in order": RowPlan(places=(0, 1, 2), counts=(2, 2, 2)),
    "one row each": RowPlan(places=(0, 1, 2), counts=(1, 1, 1)),
    "ragged": RowPlan(places=(0, 1, 2), counts=(1, 3, 2)),
    "some members, another order": RowPlan(places=(2, 0), counts=(2, 2)),
    "guidance": RowPlan(places=(1, 2, 1, 2), counts=(2, 2, 2, 2), scale=0.8),
    "one": RowPlan(places=(1,), counts=(4,), scale=0.0),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("layer", ["linear", "conv", "point"])
def test_each_row_gets_the_update_of_its_member(bank: AdapterBank, layer: str, name: str) -> None:
    plan = PLANS[name]
    shape = (plan.n_rows, 3, 6) if layer == "linear" else (plan.n_rows, 4, 8, 8)
    x = torch.randn(shape, dtype=torch.float64)
    with bank.rows(plan):
        got = getattr(bank.base, layer)(x)
    torch.testing.assert_close(got, _expected(bank, layer, x, plan))


def test_without_a_plan_it_is_the_base(bank: AdapterBank) -> None:
    x = torch.randn(2, 6, dtype=torch.float64)
    assert torch.equal(bank.base.linear(x), bank.base.linear.get_base_layer()(x))


def test_pefts_parameters_are_views_of_the_bank(bank: AdapterBank) -> None:
    layer = bank.base.linear
    with torch.no_grad():
        bank.unpack(bank.weights[2], "c")["linear.A"].fill_(3.0)
        bank.unpack(bank.weights[2], "c")["linear.B"].fill_(4.0)
    assert layer.lora_A[handle("c")].weight.unique().tolist() == [3.0]
    assert layer.lora_B[handle("c")].weight.unique().tolist() == [4.0]
    assert layer.lora_B[handle("c")].weight.shape == (10, 5)


def test_padding_has_no_gradient(bank: AdapterBank) -> None:
    x = torch.randn(6, 3, 6, dtype=torch.float64)
    with bank.rows(RowPlan(places=(0, 1, 2), counts=(2, 2, 2))):
        bank.base.linear(x).square().sum().backward()
    span = next(s for s in bank.spans if s.name == "linear")
    down, up = span.cut(bank.gradients).values()
    assert down[1, 1:].abs().max() == up[1, 1:].abs().max() == 0  # member b has rank 1 of 5
    assert down[1, 0].abs().min() > 0


def test_a_row_with_nan_reaches_no_other_member(bank: AdapterBank) -> None:
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    x[1] = torch.nan
    with bank.rows(RowPlan(places=(0, 1, 2), counts=(1, 1, 1))):
        bank.base.conv(x).sum().backward()
    finite = bank.gradients.isfinite().all(dim=1)
    assert finite.tolist() == [True, False, True]


def test_the_rest_is_untouched_when_a_member_leaves(bank: AdapterBank) -> None:
    before = {name: bank.state(name) for name in ("a", "b")}
    bank.leave(["c"])
    smaller = bank.relaid(["a", "b"])
    assert smaller.members == ("a", "b")
    for name, state in before.items():
        for key, value in state.items():
            assert torch.equal(smaller.state(name)[key], value)
    assert handle("c") not in bank.base.linear.lora_A
    assert smaller.weights.shape[1] < bank.weights.shape[1]  # ranks 3 and 1 need less padding than 5


def test_plans_do_not_nest_and_must_fit_the_batch(bank: AdapterBank) -> None:
    plan = RowPlan(places=(0,), counts=(2,))
    with bank.rows(plan):
        with pytest.raises(ValueError, match="got 3 rows, allowed is the plan's 2"):
            bank.base.linear(torch.randn(3, 6, dtype=torch.float64))
        with pytest.raises(RuntimeError, match="do not nest"), bank.rows(plan):
            pass
    with pytest.raises(ValueError, match="one count of at least 1"):
        RowPlan(places=(0,), counts=(0,))


def test_a_wrong_target_is_named() -> None:
    spec = AdapterSpec(
        kind="lora", rank=2, alpha=2, dropout=0, targets=("lniear",), use_rslora=False, init="kaiming", seed=0
    )
    with pytest.raises(ValueError, match="lniear"):
        inject(Layers(), "x", spec)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_fill_is_the_reverse_of_unpack(ranks: list[int]) -> None:
    base = Layers().requires_grad_(requires_grad=False)
    names = [f"m{i}" for i in range(len(ranks))]
    for name, rank in zip(names, ranks, strict=True):
        targets = ("linear", "conv")
        inject(
            base,
            name,
            AdapterSpec(
                kind="lora", rank=rank, alpha=1, dropout=0, targets=targets, use_rslora=False, init="gaussian", seed=3
            ),
        )
    bank = AdapterBank(base, names, dtype=torch.float32, device=torch.device("cpu"))
    for name in names:
        row = torch.zeros_like(bank.weights[0])
        bank.fill(row, bank.state(name), name)
        assert torch.equal(row, bank.weights[bank.place(name)])


def test_initialisation_depends_on_seed_and_layer_alone() -> None:
    def state(*order: str) -> dict[str, Tensor]:
        torch.manual_seed(len(order))
        base = Layers().requires_grad_(requires_grad=False)
        for name in order:
            inject(
                base,
                name,
                AdapterSpec(
                    kind="lora",
                    rank=4,
                    alpha=1,
                    dropout=0,
                    targets=("linear", "conv", "twin"),
                    use_rslora=False,
                    init="kaiming",
                    seed=ord(name),
                ),
            )
        return AdapterBank(base, order, dtype=torch.float32, device=torch.device("cpu")).state("a")

    alone, last = state("a"), state("c", "b", "a")
    assert all(torch.equal(alone[key], last[key]) for key in alone)
    assert not torch.equal(alone["linear.A"][0], alone["linear.A"][1])
    assert not torch.equal(alone["linear.A"], alone["twin.A"])
    assert float(alone["linear.B"].abs().max()) == 0


def _spec(*targets: str, seed: int) -> AdapterSpec:
    return AdapterSpec(
        kind="lora", rank=2, alpha=2.0, dropout=0.0, targets=targets, use_rslora=False, init="gaussian", seed=seed
    )


def test_an_adapter_is_the_same_in_new_layers_in_packed_ones_and_in_some_of_each() -> None:
    """PEFT replaces layers once; later adapters are given to the layers themselves."""
    specs = {"a": _spec("linear", "conv", seed=1), "b": _spec("conv", "twin", seed=2), "c": _spec("linear", seed=3)}
    together = Layers()
    for name, spec in specs.items():
        inject(together, name, spec)
    bank = AdapterBank(together, list(specs), dtype=torch.float32, device=torch.device("cpu"))
    for name, spec in specs.items():
        base = Layers()
        inject(base, name, spec)
        alone = AdapterBank(base, [name], dtype=torch.float32, device=torch.device("cpu"))
        expected = alone.unpack(alone.weights[0], name)
        got = bank.unpack(bank.weights[bank.place(name)], name)
        assert got.keys() == expected.keys() == {f"{layer}.{part}" for layer in spec.targets for part in "AB"}
        assert all(torch.equal(got[key], value) for key, value in expected.items())
        assert any(value.any() for value in expected.values())


def test_layers_whose_adapters_have_all_left_take_new_ones() -> None:
    base = Layers()
    inject(base, "a", _spec("linear", seed=1))
    clear(base, ["a"])
    inject(base, "b", _spec("linear", "twin", seed=2))
    layers = packed_layers(base)
    assert {layer for layer, module in layers.items() if handle("b") in module.lora_A} == {"linear", "twin"}
    assert not any(handle("a") in module.lora_A for module in layers.values())


def test_putting_an_adapter_in_leaves_the_streams_of_others_alone() -> None:
    base = Layers()
    torch.manual_seed(5)
    inject(base, "a", _spec("linear", seed=1))
    inject(base, "b", _spec("linear", seed=2))
    drawn = torch.randn(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.randn(3))
