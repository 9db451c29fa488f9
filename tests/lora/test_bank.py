"""The bank: one block of memory, of which everything else is a view."""

from __future__ import annotations

import pytest
import torch

from lora_foundry.lora.bank import AdapterBank, clear
from lora_foundry.lora.inject import handle, inject
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


def test_weights_are_cast_once_and_gradients_come_in_one_piece() -> None:
    """However many layers there are: what a bank does around a forward and a backward of nothing but its own layers."""
    bank = make_bank({"a": spec(2), "b": spec(3)}, base=torch.bfloat16, dtype=torch.float32)
    x, picture = torch.randn(2, 6).bfloat16(), torch.randn(2, 4, 9, 9).bfloat16()
    for _ in range(2):
        with Counted() as counted, bank.rows(RowPlan(places=(0, 1), counts=(1, 1))):
            (bank.base.linear(x).sum() + bank.base.conv(picture).sum() + bank.base.point(picture).sum()).backward()
    casts, sums = counted.of(torch.ops.aten._to_copy), counted.of(torch.ops.aten.cat)
    assert casts == 0, "the second time they are copied to where they lay"
    assert counted.of(torch.ops.aten.copy_) == sums == 1
    assert counted.of(torch.ops.aten.add_) == 1


@pytest.mark.parametrize("places", [(0, 1, 2), (2, 0), (1,)])
@pytest.mark.parametrize("counts", [(2, 2, 2), (1, 2, 3)])
def test_gradients_are_added_to_those_of_their_members(places: tuple[int, ...], counts: tuple[int, ...]) -> None:
    """And of those that sit out nothing moves."""
    bank = make_bank({"a": spec(2, alpha=3.0), "b": spec(3, "linear", "conv"), "c": spec(1)})
    plan = RowPlan(places=places, counts=counts[: len(places)])
    x = torch.randn(plan.n_rows, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = [{name: value.clone().requires_grad_() for name, value in bank.state(m).items()} for m in bank.members]
    scales = {0: 1.5, 1: 1.0, 2: 1.0}
    for row, place in zip(x, plan.row_index(x.device).tolist(), strict=True):
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

    with pytest.raises(MemoryError):
        broken()
    assert not bank.gradients.any()
    with bank.rows(plan):
        pass
    assert not bank.gradients.any(), "nor does it come later"


def test_the_alarm_is_heard_where_activations_are_kept_or_in_a_wary_bank() -> None:
    bank, heard = make_bank({"a": spec(2)}), []
    x, plan = torch.zeros(1, 6, dtype=torch.float64), RowPlan(places=(0,), counts=(1,))
    bank.base.linear(x)  # nobody listens
    bank.alarm = lambda: heard.append("rang")
    for wary, grad, times in ((False, True, 1), (False, False, 0), (True, False, 1), (True, True, 1)):
        heard.clear()
        assert bank.wary is False
        bank.wary = wary
        with torch.set_grad_enabled(grad), bank.rows(plan):
            bank.base.linear(x)
        bank.wary = False
        assert len(heard) == times, (wary, grad)


def test_regrouped_keeps_weights_gradients_and_alarm() -> None:
    bank = make_bank({"a": spec(3), "b": spec(2), "c": spec(1)})
    bank.gradients.normal_(generator=torch.Generator().manual_seed(6))
    bank.alarm = lambda: None
    kept = bank.state("b"), {k: v.clone() for k, v in bank.unpack(bank.gradients[1], "b").items()}

    def enter() -> None:
        inject(bank.base, "d", spec(4, "twin"))

    made = bank.regrouped(["d", "b"], enter)
    assert made is not None
    assert made.members == ("d", "b")
    assert made.alarm is bank.alarm
    assert all(torch.equal(value, kept[0][name]) for name, value in made.state("b").items())
    got = made.unpack(made.gradients[1], "b")
    assert all(torch.equal(value, kept[1][name]) for name, value in got.items())
    assert not made.gradients[0].any()
    assert not any(handle(name) in bank.base.linear.lora_A for name in "ac")
    assert made.regrouped([]) is None


def test_a_bank_whose_mates_could_not_enter_is_taken_back() -> None:
    bank = make_bank({"a": spec(2), "b": spec(3)})
    x, plan = torch.randn(2, 6, dtype=torch.float64), RowPlan(places=(0, 1), counts=(1, 1))
    with bank.rows(plan):
        before = bank.base.linear(x)

    def enter() -> None:
        inject(bank.base, "late", spec(2))
        raise MemoryError

    with pytest.raises(MemoryError):
        bank.regrouped(["a", "b", "late"], enter)
    bank.take_back(["late"])
    assert handle("late") not in bank.base.linear.lora_A
    with bank.rows(plan):
        assert torch.equal(bank.base.linear(x), before)
    with torch.no_grad():
        bank.weights.zero_()
    assert not bank.base.linear.lora_A[handle("a")].weight.any(), "its parameters are views again"


def test_released_layers_are_pefts_own_again() -> None:
    bank = make_bank({"a": spec(2, alpha=3.0)})
    x, image = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 4, 9, 9, dtype=torch.float64)
    plan = RowPlan(places=(0,), counts=(2,))
    with bank.rows(plan):
        packed = bank.base.linear(x), bank.base.conv(image)
    bank.release()
    bank.weights.zero_()
    assert bank.base.linear.stack is None
    held = bank.base.linear.lora_B[handle("a")].weight
    assert held.is_contiguous()
    for got, expected in zip((bank.base.linear(x), bank.base.conv(image)), packed, strict=True):
        torch.testing.assert_close(got, expected)


def test_cleared_layers_are_the_base() -> None:
    bank = make_bank({"a": spec(2)})
    x = torch.randn(2, 6, dtype=torch.float64)
    clear(bank.base, ["a"])
    assert bank.base.linear.stack is None
    assert torch.equal(bank.base.linear(x), bank.base.linear.get_base_layer()(x))
