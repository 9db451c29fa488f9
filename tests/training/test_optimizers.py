"""The optimizers of a pack against torch's and prodigyopt's own, over tensors that share nothing with the bank."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from prodigyopt import Prodigy
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lora_foundry.lora.bank import AdapterBank
from lora_foundry.training import pack_optimizer
from lora_foundry.training.pack_optimizer import PackOptimizer
from tests.config.chosen import optimizer
from tests.lora.small import make_bank, spec

RATES = (0.02, 0.05, 0.01, 0.03)


CONFIGS = {
    "a": optimizer("adamw"),
    "b": optimizer("prodigy", lr=1.0),
    "c": optimizer("adamw", betas=(0.95, 0.5)),
    "d": optimizer("adafactor"),
}
RANKS = {"a": 3, "b": 2, "c": 1, "d": 4}


def _bank() -> AdapterBank:
    return make_bank({name: spec(rank, "linear", "twin") for name, rank in RANKS.items()})


def _gradients(bank: AdapterBank, step: int) -> None:
    """Other numbers each step, none of them in the padding."""
    drawn = torch.Generator().manual_seed(step)
    for name in bank.members:
        for value in bank.unpack(bank.gradients[bank.place(name)], name).values():
            value.copy_(torch.randn(value.shape, generator=drawn, dtype=torch.float64))


class _Alone:
    """A member's tensors under the library's own optimizer."""

    def __init__(self, bank: AdapterBank, name: str) -> None:
        self.parameters = {key: nn.Parameter(value) for key, value in bank.state(name).items()}
        self._bank, self._name, config = bank, name, CONFIGS[name]
        given = list(self.parameters.values())
        self.optimizer: torch.optim.Optimizer
        if config.name == "adamw":
            self.optimizer = torch.optim.AdamW(given, 9.0, config.betas, config.eps, config.weight_decay)
        elif config.name == "adafactor":
            self.optimizer = torch.optim.Adafactor(given, 9.0, eps=(None, config.eps), weight_decay=config.weight_decay)
        else:
            self.optimizer = Prodigy(given, 9.0, config.betas, eps=config.eps, weight_decay=config.weight_decay)

    def step(self, rate: float) -> None:
        place = self._bank.place(self._name)
        for key, gradient in self._bank.unpack(self._bank.gradients[place], self._name).items():
            self.parameters[key].grad = gradient.clone()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def holds(self, bank: AdapterBank) -> None:
        for key, value in bank.state(self._name).items():
            torch.testing.assert_close(value, self.parameters[key].detach(), rtol=1e-11, atol=1e-13)


def test_every_member_steps_as_the_librarys_own_optimizer_does() -> None:
    bank = _bank()
    pack, alone = PackOptimizer(bank, CONFIGS), {name: _Alone(bank, name) for name in CONFIGS}
    for step, rate in enumerate(RATES):
        _gradients(bank, step)
        rates = {name: rate * (1 + index) for index, name in enumerate(CONFIGS)}
        pack.step(rates)
        for name, one in alone.items():
            one.step(rates[name])
            one.holds(bank)
    assert int(bank.weights[1].count_nonzero()) == RANKS["b"] * 2 * (6 + 10), "padding stays zero"


def test_who_is_not_named_takes_no_step() -> None:
    bank = _bank()
    pack, alone = PackOptimizer(bank, CONFIGS), {name: _Alone(bank, name) for name in CONFIGS}
    for step, names in enumerate(("a", "cd", "abcd", "b", "ac")):
        _gradients(bank, step)
        pack.step(dict.fromkeys(names, 0.04))
        for name in names:
            alone[name].step(0.04)
        for one in alone.values():
            one.holds(bank)


def test_adafactors_step_of_a_matrix_that_is_still_zero() -> None:
    """Its size goes by the matrix', and by epsilon where that is smaller."""
    bank = _bank()
    for key, value in bank.unpack(bank.weights[bank.place("d")], "d").items():
        if key.endswith(".B"):
            value.zero_()
    pack, alone = PackOptimizer(bank, CONFIGS), _Alone(bank, "d")
    for step in range(3):
        _gradients(bank, step)
        pack.step({"d": 0.05})
        alone.step(0.05)
        alone.holds(bank)


def test_each_call_of_an_optimizer_names_whom_it_stepped() -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    _gradients(bank, 0)
    assert list(pack.steps(dict.fromkeys("abcd", 0.1))) == [{"b"}, {"d"}, {"a", "c"}]
    assert list(pack.steps({"d": 0.1})) == [{"d"}]
    assert list(pack.steps({"c": 0.1})) == [{"c"}]
    assert list(pack.steps({})) == []
    only = PackOptimizer(bank, {"b": CONFIGS["b"]})
    assert list(only.steps({"b": 0.1})) == [{"b"}]
    assert only._packed == []


def _copied(bank: AdapterBank) -> AdapterBank:
    other = _bank()
    other.weights.copy_(bank.weights)
    other.gradients.copy_(bank.gradients)
    return other


def test_a_state_goes_on_in_another_pack_as_it_would_have_here() -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    for step in range(3):
        _gradients(bank, step)
        pack.step(dict.fromkeys(CONFIGS, 0.05))
    states = {name: pack.state(name) for name in CONFIGS}
    for state in states.values():
        assert state.tensors
        assert all(t.device.type == "cpu" and t.is_contiguous() for t in state.tensors.values())
    kept = deepcopy(states)
    other = _copied(bank)
    went_on = PackOptimizer(other, CONFIGS)
    for name, state in states.items():
        went_on.load(name, state)
    for step in range(3, 6):
        for one, stepping in ((bank, pack), (other, went_on)):
            _gradients(one, step)
            stepping.step(dict.fromkeys(CONFIGS, 0.05))
        assert torch.equal(bank.weights, other.weights)
    for name, state in kept.items():
        assert pack.state(name).tensors.keys() == state.tensors.keys()


def test_a_state_is_a_copy() -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    _gradients(bank, 0)
    pack.step(dict.fromkeys(CONFIGS, 0.05))
    states = {name: pack.state(name) for name in CONFIGS}
    kept = deepcopy(states)
    _gradients(bank, 1)
    pack.step(dict.fromkeys(CONFIGS, 0.05))
    for name, state in states.items():
        assert all(torch.equal(value, kept[name].tensors[key]) for key, value in state.tensors.items())


def test_a_state_has_no_padding_and_names_its_layers() -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    _gradients(bank, 0)
    pack.step({"a": 0.1})
    state = pack.state("a")
    shapes = {f"{m}.{k}": tuple(v.shape) for m in ("exp_avg", "exp_avg_sq") for k, v in bank.state("a").items()}
    assert {key: tuple(value.shape) for key, value in state.tensors.items()} == shapes
    assert state.numbers == {"step": 1.0}
    gradient = bank.unpack(bank.gradients[0], "a")["twin.B"]
    torch.testing.assert_close(state.tensors["exp_avg.twin.B"], gradient * 0.3)
    torch.testing.assert_close(state.tensors["exp_avg_sq.twin.B"], gradient.square() * 0.1)


def test_the_numbers_of_a_librarys_state_name_its_groups() -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    _gradients(bank, 0)
    pack.step({"b": 0.1})
    (group,) = pack.state("b").numbers["groups"]
    assert group["lr"] == 0.1
    assert group["k"] == 1
    assert "params" not in group


def test_a_scale_is_prodigys_estimate_before_its_step() -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    assert [pack.scale(name) for name in "abcd"] == [None] * 4
    estimates = []
    for step in range(12):
        estimates.append(pack.state("b").numbers["groups"][0]["d"])
        _gradients(bank, 1)
        pack.step(dict.fromkeys("abcd", 1.0))
        assert pack.scale("b") == estimates[step]
    assert [pack.scale(name) for name in "acd"] == [None] * 3
    assert estimates[-1] > estimates[0] == 1e-6


class _Operations(TorchDispatchMode):
    """Names of what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten":  # not the profiler's marks
            self.names.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def test_adamw_is_one_call_a_member_that_needs_no_memory() -> None:
    """Views, and kernels that write where they read: nothing that a shortage could break off half-way."""
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    _gradients(bank, 0)
    with _Operations() as asked:
        pack.step({"a": 0.1, "c": 0.1})
    written = [name for name in asked.names if name.endswith("_")]
    assert written == ["_foreach_add_", "_fused_adamw_"] * 2
    assert set(asked.names) - {*written} == {"select"}


@pytest.mark.parametrize("name", ["prodigy", "adafactor"])
def test_a_librarys_state_leaves_the_device_in_one_piece(name: str) -> None:
    bank = _bank()
    pack = PackOptimizer(bank, {**CONFIGS, "b": optimizer(name, lr=1.0)})
    _gradients(bank, 0)
    pack.step({"b": 0.1})
    held = [one for entry in pack._own["b"]._optimizer.state_dict()["state"].values() for one in entry.values()]
    before = {one.untyped_storage().data_ptr() for one in held if isinstance(one, torch.Tensor)}
    with _Reading(before) as asked:
        state = pack.state("b")
    assert len(state.tensors) > 4
    assert asked.names == ["cat"] * len({one.dtype for one in state.tensors.values()})
    assert not before.intersection(one.untyped_storage().data_ptr() for one in state.tensors.values())


class _Reading(TorchDispatchMode):
    """Names of what reads some memory; what only looks at it differently reads nothing."""

    def __init__(self, memory: set[int]) -> None:
        super().__init__()
        self._memory = memory
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        looks = func.is_view or func.overloadpacket is torch.ops.aten.detach
        if not looks and any(one.untyped_storage().data_ptr() in self._memory for one in tensors):
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_state_of_other_groups_is_refused() -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    _gradients(bank, 0)
    pack.step({"b": 0.1})
    state = pack.state("b")
    state.numbers["groups"] *= 2
    with pytest.raises(ValueError, match="longer"):
        pack.load("b", state)


def test_a_stranger_is_named() -> None:
    pack = PackOptimizer(_bank(), {"b": CONFIGS["b"]})
    with pytest.raises(KeyError, match="no member 'x' in this pack"):
        pack.state("x")


@pytest.mark.parametrize("name", ["b", "d"])
@pytest.mark.parametrize("error", [MemoryError("short"), ValueError("wrong")])
def test_a_step_that_ran_out_of_memory_half_way_is_undone(
    name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = _bank()
    pack = PackOptimizer(bank, CONFIGS)
    _gradients(bank, 0)
    pack.step({name: 0.1})
    before, state = bank.weights.clone(), pack.state(name)
    cls = type(pack._own[name]._optimizer)
    whole = cls.step

    def half(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        whole(self, closure)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(cls, "step", half)
        with pytest.raises(type(error)):
            pack.step({name: 0.1})
    undone = isinstance(error, MemoryError)
    assert torch.equal(bank.weights, before) is undone
    if undone:
        _same(pack.state(name), state)


def _same(one: pack_optimizer.OptimizerState, other: pack_optimizer.OptimizerState) -> None:
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(value, other.tensors[key]) for key, value in one.tensors.items())
    assert {k: v for k, v in one.numbers.items() if k != "groups"} == {
        k: v for k, v in other.numbers.items() if k != "groups"
    }


def test_prodigy_takes_its_own_options() -> None:
    config = optimizer("prodigy", lr=1.0)
    options = replace(config.options, d_coef=0.5, use_bias_correction=True, safeguard_warmup=True)  # type: ignore[call-arg]
    pack = PackOptimizer(_bank(), {"b": replace(config, options=options)})
    (group,) = pack.state("b").numbers["groups"]
    assert (group["d_coef"], group["use_bias_correction"], group["safeguard_warmup"]) == (0.5, True, True)
