"""The bank: one block of memory, of which everything else is a view."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lora_foundry.lora.bank import AdapterBank, clear
from lora_foundry.lora.inject import AdapterSpec, handle, inject
from lora_foundry.lora.layout import relaid
from lora_foundry.lora.rows import RowPlan
from tests.lora.counted import Counted
from tests.lora.small import Layers, make_bank, spec


def test_rows_hold_each_layers_a_and_b_one_behind_the_other() -> None:
    bank = make_bank({"a": spec(2, "linear", "point"), "b": spec(1, "linear")})
    assert [span.name for span in bank.spans] == ["linear", "point"]
    assert [(span.start, span.end) for span in bank.spans] == [(0, 32), (32, 50)]
    assert [dict(span.shapes) for span in bank.spans] == [
        {"A": (2, 6), "B": (2, 10)},
        {"A": (2, 4, 1, 1), "B": (2, 5)},
    ]
    assert bank.weights.shape == bank.gradients.shape == (2, 50)
    assert not bank.gradients.any()
    b = bank.unpack(bank.weights[1], "b")
    assert {name: tuple(value.shape) for name, value in b.items()} == {"linear.A": (1, 6), "linear.B": (1, 10)}
    assert torch.equal(b["linear.A"][0], bank.weights[1, :6])
    assert torch.equal(b["linear.B"][0], bank.weights[1, 12:22])
    assert int(bank.weights[1].count_nonzero()) == 16, "padding and absent targets are zeros"


def test_layers_without_members_take_no_room() -> None:
    base = Layers().requires_grad_(requires_grad=False)
    inject(base, "gone", spec(2, "conv"))
    inject(base, "a", spec(2, "linear"))
    bank = AdapterBank(base, ["a"], dtype=torch.float32, device=torch.device("cpu"))
    assert [span.name for span in bank.spans] == ["linear"]
    assert base.conv.stack is None
    nobody = AdapterBank(base, [], dtype=torch.float32, device=torch.device("cpu"))
    assert nobody.weights.shape == (0, 0)


def test_everything_lies_on_the_banks_device() -> None:
    base = Layers().double().requires_grad_(requires_grad=False)
    inject(base, "a", spec(2, "linear"))
    base.to("meta")
    bank = AdapterBank(base, ["a"], dtype=torch.float64, device=torch.device("meta"))
    stack = base.linear.stack
    assert stack is not None
    assert stack.name == "linear"
    with bank.rows(RowPlan(places=(0,), counts=(1,), scale=0.5)):
        now = stack.forward()
        strengths = now.strengths(stack.scales)
    assert strengths is not None
    for tensor in (bank.weights, bank.gradients, *now.parts["linear"].values(), strengths):
        assert tensor.device.type == "meta"
        assert tensor.dtype == torch.float64


def test_parameters_are_views_with_their_gradients() -> None:
    bank = make_bank({"a": spec(3), "b": spec(2)})
    bank.gradients.copy_(torch.arange(bank.gradients.numel(), dtype=torch.float64).view(bank.gradients.shape))
    views = bank.parameters("b")
    weights, gradients = bank.unpack(bank.weights[1], "b"), bank.unpack(bank.gradients[1], "b")
    assert len(views) == len(weights) == 6
    for view, weight, gradient in zip(views, weights.values(), gradients.values(), strict=True):
        assert view.requires_grad
        assert view.shape == weight.shape
        assert view.data_ptr() == weight.data_ptr()
        assert view.grad is not None
        assert torch.equal(view.grad, gradient)
        assert view.grad.data_ptr() == gradient.data_ptr()


def test_an_adapter_is_zero_while_its_b_is() -> None:
    bank = make_bank({"a": spec(2), "b": spec(2)})
    for name, value in bank.unpack(bank.weights[1], "b").items():
        if name.endswith(".B"):
            value.zero_()
    assert bank.is_zero("b")
    assert not bank.is_zero("a")


def test_a_state_is_a_copy() -> None:
    bank = make_bank({"a": spec(2)})
    before = bank.weights.clone()
    for value in bank.state("a").values():
        assert value.is_contiguous()
        assert value.device.type == "cpu"
        value.fill_(9.0)
    assert torch.equal(bank.weights, before)


def test_what_does_not_fit_a_member_is_refused() -> None:
    bank = make_bank({"a": spec(2, "linear", "conv", "point", "twin")})
    row, state = bank.weights[0], bank.state("a")
    less = {name: value for name, value in state.items() if name == "twin.B"}
    with pytest.raises(
        ValueError, match=r"^adapter 'a': got other layers than the base's targets: (?P<all>.*)$"
    ) as said:
        bank.fill(row, less, "a")
    named = str(said.value).split(": ")[-1].split(", ")
    assert named == ["conv.A", "conv.B", "linear.A", "linear.B", "point.A"], "the first five that differ"
    with pytest.raises(ValueError, match=r"^adapter 'a', linear.A: got shape \(6, 2\), allowed is \(2, 6\)$"):
        bank.fill(row, {**state, "linear.A": state["linear.A"].T}, "a")


def test_pefts_parameters_are_not_trained_and_the_leaves_are() -> None:
    bank = make_bank({"a": spec(2)})
    layer = bank.base.linear
    assert not layer.lora_A[handle("a")].weight.requires_grad
    assert not layer.lora_B[handle("a")].weight.requires_grad
    with bank.rows(RowPlan(places=(0,), counts=(1,))):
        assert all(leaf.requires_grad for leaf in layer.stack.forward().parts["linear"].values())


def test_scales_of_one_multiply_nothing() -> None:
    def strengths(bank: AdapterBank, layer: str, scale: float = 1.0) -> list[float] | None:
        places = tuple(range(len(bank.members)))
        with bank.rows(RowPlan(places=places, counts=(1,) * len(places), scale=scale)):
            stack = getattr(bank.base, layer).stack
            made = stack.forward().strengths(stack.scales)
        return None if made is None else made.flatten().tolist()

    plain = make_bank({"a": spec(2), "b": spec(3, "conv", alpha=6.0)})
    assert strengths(plain, "linear") is None, "b has no such target"
    assert strengths(plain, "linear", 0.5) == [0.5, 0.5]
    assert strengths(plain, "conv") == [1.0, 2.0]


@pytest.mark.parametrize(("base", "copies"), [(torch.bfloat16, 1), (torch.float32, 0)])
def test_weights_are_cast_once_and_gradients_come_in_one_piece(base: torch.dtype, copies: int) -> None:
    """However many layers there are, as on a card; and where nothing is cast, nothing is done for the bank at all."""
    bank = make_bank({name: spec(2, "linear", "twin") for name in "ab"}, base=base, dtype=torch.float32)
    bank.base.to("meta")
    bank = AdapterBank(bank.base, ["a", "b"], dtype=torch.float32, device=torch.device("meta"))
    x = torch.randn(2, 6, dtype=base, device="meta")
    for _ in range(2):
        with Counted() as counted, bank.rows(RowPlan(places=(0, 1), counts=(1, 1))):
            (bank.base.linear(x).sum() + bank.base.twin(x).sum()).backward()
    aten = torch.ops.aten
    assert counted.of(aten._to_copy) == counted.of(aten.cat) == 0, "they are copied to where they lay before"
    assert counted.of(aten.copy_) == counted.of(aten.add_) == copies
    assert counted.of(aten.baddbmm_) == 2 * 3, "an update, and the gradients of A and B"


@pytest.mark.parametrize("counts", [(1,), (2, 2), (1, 2)])
@pytest.mark.parametrize("base", [torch.float64, torch.bfloat16])
def test_a_layer_that_comes_twice_has_both_its_gradients(base: torch.dtype, counts: tuple[int, ...]) -> None:
    """Added to what was there, straight into the bank (64 bits) or in a block of its own, whatever that held before."""
    names, wide = "abc"[: len(counts)], torch.float64 if base == torch.float64 else torch.float32
    bank = make_bank({name: spec(2, "linear", "twin", "conv") for name in names}, base=base, dtype=wide)
    plan = RowPlan(places=tuple(range(len(counts))), counts=counts)
    first, second = (
        torch.randn(plan.n_rows, 6, generator=torch.Generator().manual_seed(seed)).to(base) for seed in (1, 2)
    )

    def gradients(*inputs: Tensor) -> Tensor:
        bank.gradients.fill_(1.0)
        with bank.rows(plan):
            sum(bank.base.linear(x).float().square().sum() for x in inputs).backward()
        return bank.gradients - 1.0

    expected = gradients(first) + gradients(second)
    assert expected.any(dim=1).all()
    torch.testing.assert_close(gradients(first, second), expected, rtol=0.05 if base != wide else 1e-12, atol=1e-1)
    untouched = {name for span in bank.spans if span.name != "linear" for name in [span.name]}
    for name in untouched:
        span = next(span for span in bank.spans if span.name == name)
        assert not any(part.any() for part in span.cut(gradients(first)).values()), name


@pytest.fixture
def dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that was used before holds what is not finite."""
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, torch.nan))


@pytest.mark.usefixtures("dirty")
@pytest.mark.parametrize("rows", [(1, 1), (1, 2)])
def test_layers_that_a_pass_did_not_reach_have_no_gradient(rows: tuple[int, ...]) -> None:
    bank = make_bank({"a": spec(2), "b": spec(3)}, base=torch.bfloat16, dtype=torch.float32)
    x = torch.randn(sum(rows), 6).bfloat16()
    with bank.rows(RowPlan(places=(0, 1), counts=rows)):
        bank.base.linear(x).sum().backward()
    for span in bank.spans:
        for part in span.cut(bank.gradients).values():
            assert part.isfinite().all()
            assert bool(part.any()) == (span.name == "linear")


@pytest.mark.parametrize("places", [(0, 1, 2), (2, 0), (1,)])
@pytest.mark.parametrize("counts", [(2, 2, 2), (1, 2, 3)])
def test_gradients_are_added_to_those_of_their_members(places: tuple[int, ...], counts: tuple[int, ...]) -> None:
    """And of those that sit out nothing moves."""
    bank = make_bank({"a": spec(2, alpha=3.0), "b": spec(3, "linear", "conv"), "c": spec(1)})
    plan = RowPlan(places=places, counts=counts[: len(places)])
    x = torch.randn(plan.n_rows, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = [{name: value.clone().requires_grad_() for name, value in bank.state(m).items()} for m in bank.members]
    scales = {0: 1.5, 1: 1.0, 2: 1.0}
    whose = [place for place, count in zip(plan.places, plan.counts, strict=True) for _ in range(count)]
    for row, place in zip(x, whose, strict=True):
        parts = weights[place]
        update = scales[place] * (row @ parts["linear.A"].T @ parts["linear.B"])
        (bank.base.linear.get_base_layer()(row) + update).square().sum().backward()
    bank.gradients.fill_(1.0)
    with bank.rows(plan):
        bank.base.linear(x).square().sum().backward()
    for place, member in enumerate(bank.members):
        for name, value in bank.unpack(bank.gradients[place], member).items():
            grad = weights[place][name].grad
            torch.testing.assert_close(value, torch.ones_like(value) + (0 if grad is None else grad))


def test_a_backward_pass_that_broke_leaves_no_gradient() -> None:
    bank = make_bank({"a": spec(2)})
    x, plan = torch.randn(1, 6, dtype=torch.float64), RowPlan(places=(0,), counts=(1,))

    def broken() -> None:
        with bank.rows(plan):
            bank.base.linear(x).sum().backward()
            raise MemoryError

    with bank.rows(plan):
        bank.base.linear(x).sum().backward()
    assert bank.gradients.any()
    with pytest.raises(MemoryError):
        broken()
    assert not bank.gradients.any(), "nor what it was to be added to: the members' step begins anew"
    with bank.rows(plan):
        pass
    assert not bank.gradients.any(), "nor does it come later"


def test_the_alarm_is_heard_where_activations_are_kept() -> None:
    bank, heard = make_bank({"a": spec(2)}), []
    x, plan = torch.zeros(1, 6, dtype=torch.float64), RowPlan(places=(0,), counts=(1,))
    bank.base.linear(x)  # nobody listens
    bank.alarm = lambda: heard.append("rang")
    for grad, times in ((True, 1), (False, 0)):
        heard.clear()
        with torch.set_grad_enabled(grad), bank.rows(plan):
            bank.base.linear(x)
        assert len(heard) == times, grad


def _numbers(bank: AdapterBank, member: str) -> list[Tensor]:
    """A copy of the member's row and gradient, padding and all."""
    place = bank.place(member)
    return [bank.weights[place].clone(), bank.gradients[place].clone()]


def _addresses(bank: AdapterBank, member: str) -> list[int]:
    place = bank.place(member)
    views = [bank.weights[place], bank.gradients[place], *bank.parameters(member)]
    held = [bank.base.linear.lora_A[handle(member)].weight, bank.base.linear.lora_B[handle(member)].weight]
    return [one.data_ptr() for one in (*views, *held)]


def _is_linked(bank: AdapterBank, member: str) -> bool:
    part = bank.unpack(bank.weights[bank.place(member)], member)["linear.A"]
    return bank.base.linear.lora_A[handle(member)].weight.data_ptr() == part.data_ptr()


def _with_gradients(specs: dict[str, AdapterSpec]) -> AdapterBank:
    bank = make_bank(specs)
    drawn = torch.Generator().manual_seed(6)
    for place, name in enumerate(bank.members):
        for value in bank.unpack(bank.gradients[place], name).values():
            value.copy_(torch.randn(value.shape, generator=drawn, dtype=torch.float64))
    return bank


def _values(bank: AdapterBank, member: str) -> dict[str, Tensor]:
    place = bank.place(member)
    gradients = bank.copied(bank.gradients[place], member)
    return {**bank.state(member), **{f"gradient {name}": value for name, value in gradients.items()}}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_who_leaves_leaves_nothing_and_nothing_else_moves() -> None:
    bank = _with_gradients({"a": spec(3), "b": spec(2, "linear", "twin"), "c": spec(1)})
    before, where = {name: _numbers(bank, name) for name in "ac"}, {name: _addresses(bank, name) for name in "ac"}
    bank.leave(["b"])
    assert bank.places == ("a", None, "c")
    assert bank.members == ("a", "c")
    assert not bank.weights[1].any()
    assert not bank.gradients[1].any()
    assert handle("b") not in bank.base.linear.lora_A
    for name in "ac":
        assert _addresses(bank, name) == where[name]
        assert all(map(torch.equal, _numbers(bank, name), before[name]))


def test_who_comes_takes_the_free_place_and_nothing_else_moves() -> None:
    bank = _with_gradients({"a": spec(3), "b": spec(3), "c": spec(1)})
    bank.leave(["b"])
    before, where = {name: _numbers(bank, name) for name in "ac"}, {name: _addresses(bank, name) for name in "ac"}
    inject(bank.base, "d", spec(2, "linear", "conv", alpha=6.0, seed=9))
    assert bank.admits(["d"])
    bank.enter("d")
    assert bank.places == ("a", "d", "c")
    alone = Layers()
    inject(alone, "d", spec(2, "linear", "conv", alpha=6.0, seed=9))
    fresh = AdapterBank(alone, ["d"], dtype=torch.float64, device=torch.device("cpu"))
    assert _same(bank.state("d"), fresh.state("d"))
    assert not bank.gradients[1].any()
    assert bank.base.linear.stack.scales == (1.0, 3.0, 1.0)
    assert _is_linked(bank, "d")
    assert not bank.base.linear.lora_A[handle("a")].weight.requires_grad, "PEFT made it the active adapter"
    for name in "ac":
        assert _addresses(bank, name) == where[name]
        assert all(map(torch.equal, _numbers(bank, name), before[name]))


def test_what_has_no_room_is_not_admitted() -> None:
    bank = make_bank({"a": spec(3, "linear", "conv"), "b": spec(2, "linear", "conv")})
    for name, one in {"larger": spec(4, "linear"), "elsewhere": spec(1, "twin"), "fits": spec(3, "conv")}.items():
        inject(bank.base, name, one)
    assert not bank.admits(["fits"]), "there is no free place"
    bank.leave(["b"])
    assert bank.admits(["fits"])
    assert not bank.admits(["larger"])
    assert not bank.admits(["elsewhere"])
    assert not bank.admits(["fits", "fits"])


def test_layers_that_nobody_targets_any_more_are_the_base_until_somebody_does() -> None:
    bank = make_bank({"a": spec(2, "linear"), "b": spec(2, "linear", "conv")})
    image = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    bank.leave(["b"])
    with bank.rows(RowPlan(places=(0,), counts=(1,))), Counted() as counted:
        assert torch.equal(bank.base.conv(image), bank.base.conv.get_base_layer()(image))
    assert counted.of(torch.ops.aten.convolution) == 2, "no zeros are multiplied"
    inject(bank.base, "c", spec(1, "conv"))
    bank.enter("c")
    bank.unpack(bank.weights[1], "c")["conv.B"].fill_(1.0)
    with bank.rows(RowPlan(places=(1,), counts=(1,))):
        assert not torch.equal(bank.base.conv(image), bank.base.conv.get_base_layer()(image))


def test_a_bank_is_sparse_where_its_members_would_take_half_of_it() -> None:
    bank = make_bank({"a": spec(2), "b": spec(2), "c": spec(2), "d": spec(2)})
    bank.leave(["b"])
    assert not bank.is_sparse
    bank.leave(["c"])
    assert bank.is_sparse
    mixed = make_bank({"a": spec(4), "b": spec(1), "c": spec(2)})
    assert not mixed.is_sparse
    mixed.leave(["a"])
    assert mixed.is_sparse, "two of rank 2 in three of rank 4"


@pytest.mark.parametrize("aside", [False, True])
@pytest.mark.parametrize("joining", [None, spec(4, "twin", "conv"), spec(1, "linear")])
def test_another_bank_takes_weights_gradients_and_alarm_along(joining: AdapterSpec | None, aside: bool) -> None:
    bank = _with_gradients({"a": spec(3), "b": spec(2), "c": spec(1, "linear", "conv")})
    bank.alarm = lambda: None
    bank.leave(["a"])
    kept = {name: _values(bank, name) for name in "bc"}
    names = ["b", "c"]
    if joining:
        inject(bank.base, "d", joining)
        names = ["d", "c", "b"]
    if aside:
        bank.put_aside()
    made = bank.relaid(names)
    assert made.members == tuple(names)
    assert made.alarm is bank.alarm
    for name, values in kept.items():
        assert _same(_values(made, name), values)
        used = sum(value.numel() for value in made.state(name).values())
        assert int(made.weights[made.place(name)].count_nonzero()) == used, "the rest is padding"
        assert _is_linked(made, name)
    assert not joining or not made.gradients[0].any()
    assert made.relaid([]).weights.shape == (0, 0)


def test_a_row_moves_in_one_piece_where_it_lies_alike() -> None:
    bank = make_bank({"a": spec(3), "b": spec(2)})
    with Counted() as counted:
        same = relaid(bank.weights[1], bank.spans, bank.spans)
    assert torch.equal(same, bank.weights[1])
    assert counted.of(torch.ops.aten.slice) == counted.of(torch.ops.aten.cat) == 1


def test_joining_and_leaving_are_a_copy_a_member() -> None:
    """Of what is on the bank's device, however many layers there are; others' numbers are not even looked at."""
    specs = {name: spec(2, "linear", "conv", "point", "twin") for name in "abc"}
    bank = make_bank(specs)
    device = _OnDevice(bank)
    with device:
        bank.leave(["b"])
    assert device.names == ["zero_", "zero_"], "its weights and its gradient"
    inject(bank.base, "d", specs["b"])
    with device:
        bank.enter("d")
    assert device.names == ["copy_"]


class _OnDevice(TorchDispatchMode):
    """Names of what is computed with the bank's memory; what only looks at it differently is no work."""

    def __init__(self, bank: AdapterBank) -> None:
        super().__init__()
        self._held = {block.untyped_storage().data_ptr() for block in (bank.weights, bank.gradients)}
        self.names: list[str] = []

    def __enter__(self) -> Self:
        self.names.clear()
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        looks = func.is_view or func.overloadpacket is torch.ops.aten.detach
        if not looks and any(one.untyped_storage().data_ptr() in self._held for one in tensors):
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_rows_that_lie_evenly_apart_are_computed_with_as_they_lie() -> None:
    bank = make_bank({name: spec(2) for name in "abcd"})
    x = torch.randn(3, 6, dtype=torch.float64)
    for places, copies in {(0, 1, 2): 0, (1, 3): 0, (3,): 0, (0, 1, 3): 2, (2, 0): 2, (1, 1): 2}.items():
        with Counted() as counted, bank.rows(RowPlan(places=places, counts=(1,) * len(places))):
            got = bank.base.linear(x[: len(places)])
        assert counted.of(torch.ops.aten.copy_) == copies, places
        for row, place in enumerate(places):
            parts = bank.state("abcd"[place])
            update = x[row] @ parts["linear.A"].T @ parts["linear.B"]
            torch.testing.assert_close(got[row], bank.base.linear.get_base_layer()(x[row]) + update)


def test_steps_of_the_same_members_see_weights_that_moved() -> None:
    bank = make_bank({name: spec(2) for name in "abc"}, base=torch.float32)
    x, plan = torch.randn(2, 6), RowPlan(places=(2, 0), counts=(1, 1))
    with bank.rows(plan):
        before = bank.base.linear(x)
    with Counted() as counted, bank.rows(plan):
        assert torch.equal(bank.base.linear(x), before)
    assert counted.of(torch.ops.aten.as_strided) == 0, "views are made once"
    bank.weights[2].mul_(2.0)
    with bank.rows(plan):
        after = bank.base.linear(x)
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


@pytest.mark.parametrize("free", [True, False])
def test_a_bank_whose_mates_could_not_enter_is_taken_back(free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = _with_gradients({"a": spec(2), "b": spec(3), "c": spec(3)})
    bank.leave(["c"])
    x, plan = torch.randn(2, 6, dtype=torch.float64), RowPlan(places=(0, 1), counts=(1, 1))
    with bank.rows(plan):
        before = bank.base.linear(x)
    numbers = {name: _numbers(bank, name) for name in "ab"}
    inject(bank.base, "late", spec(2))

    def scarce(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(AdapterBank, "_attach", scarce)  # the last that is done
        comes = partial(bank.enter, "late") if free else partial(bank.relaid, ["a", "b", "late"])
        with pytest.raises(MemoryError):
            comes()
    bank.take_back(["late"])
    assert bank.places == ("a", "b", None)
    assert handle("late") not in bank.base.linear.lora_A
    assert not bank.weights[2].any()
    assert all(torch.equal(*pair) for name in "ab" for pair in zip(_numbers(bank, name), numbers[name], strict=True))
    with bank.rows(plan):
        assert torch.equal(bank.base.linear(x), before)
    with torch.no_grad():
        bank.weights.zero_()
    assert not bank.base.linear.lora_A[handle("a")].weight.any(), "its parameters are views again"


def test_pefts_own_layers_compute_what_the_bank_holds() -> None:
    bank = make_bank({"a": spec(2, alpha=3.0)})
    x, image = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 4, 9, 9, dtype=torch.float64)
    plan = RowPlan(places=(0,), counts=(2,))
    with bank.rows(plan):
        packed = bank.base.linear(x), bank.base.conv(image)
    bank.base.linear.stack = bank.base.conv.stack = None
    for got, expected in zip((bank.base.linear(x), bank.base.conv(image)), packed, strict=True):
        torch.testing.assert_close(got, expected)


def test_cleared_layers_are_the_base() -> None:
    bank = make_bank({"a": spec(2)})
    x = torch.randn(2, 6, dtype=torch.float64)
    clear(bank.base, ["a"])
    assert bank.base.linear.stack is None
    assert torch.equal(bank.base.linear(x), bank.base.linear.get_base_layer()(x))
