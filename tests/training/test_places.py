"""Places of a pack: who comes and goes moves nothing of the others, and where all move every number stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_foundry.lora.bank import AdapterBank
from lora_foundry.training.member import Member
from lora_foundry.training.pack import Pack
from lora_foundry.training.pack_optimizer import PackOptimizer
from lora_foundry.training.pack_step import run_step
from tests.training.test_equality_contract import DIFFERENCES, LIMIT, PLAIN
from tests.training.test_joining import joined, weights
from tests.training.world import Spec, distance, make_member, make_task, undisturbed

HERE = (
    Spec("one", ("lora.rank=3",)),
    Spec("gone", ("lora.rank=3", "seed=2")),
    Spec("patient", ("trainer.accumulate=5", "lora.rank=3", "optimizer=prodigy")),
)


def _pack(root: Path, *specs: Spec) -> Pack:
    """After two steps."""
    pack = Pack(make_task(), [make_member(spec, root, job) for job, spec in enumerate(specs)])
    for _ in range(2):
        run_step(pack)
    return pack


def _named(pack: Pack, name: str) -> Member:
    return next(member for member in pack.members if member.name == name)


def _tensors(pack: Pack, name: str) -> list[torch.Tensor]:
    """Whatever the member has on the device: its row, its gradient, PEFT's views of it, its optimizer's state."""
    place, held = pack.bank.place(name), pack.optimizer._of(name)
    trained = [held._rows[name]] if name in getattr(held, "_rows", {}) else held._views  # type: ignore[union-attr]
    states = [value for one in trained for value in held._optimizer.state[one].values()]
    return [
        pack.bank.weights[place],
        pack.bank.gradients[place],
        *pack.bank.parameters(name),
        *trained,
        *(value for value in states if isinstance(value, torch.Tensor)),
    ]


def _addresses(pack: Pack, name: str) -> list[int]:
    return [tensor.data_ptr() for tensor in _tensors(pack, name)]


def _numbers(pack: Pack, name: str) -> dict[str, torch.Tensor]:
    gradient = pack.bank.copied(pack.bank.gradients[pack.bank.place(name)], name)
    state = pack.optimizer.state(name)
    numbers = {key: torch.tensor(value) for key, value in state.numbers.items() if key != "groups"}
    groups = {f"gradient {key}": value for key, value in gradient.items()}
    return {**pack.bank.state(name), **groups, **{f"state {k}": v for k, v in (state.tensors | numbers).items()}}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.slow
def test_mates_of_who_leaves_and_of_who_takes_the_place_stay_where_they_are(tmp_path: Path) -> None:
    pack = _pack(tmp_path, *HERE)
    names = ("one", "patient")
    where, numbers = {n: _addresses(pack, n) for n in names}, {n: _numbers(pack, n) for n in names}
    assert any(value.any() for key, value in numbers["patient"].items() if key.startswith("gradient"))
    pack.leave([_named(pack, "gone")])
    assert pack.bank.places == ("one", None, "patient")
    joining = make_member(Spec("late", ("lora.rank=2", "seed=3")), tmp_path, 3)
    for comes in (False, True):
        if comes:
            pack.join([joining])
        for name in names:
            assert _addresses(pack, name) == where[name]
            assert _same(_numbers(pack, name), numbers[name])
    assert pack.bank.places == ("one", "late", "patient")
    assert [member.name for member in pack.members] == ["one", "late", "patient"], "in the order of places"
    assert {member.name for member in run_step(pack).stepped} == {"one", "late"}
    pack.close()


@pytest.mark.parametrize("change", ["a larger rank", "other layers", "shrinking", "short"])
def test_where_all_move_every_number_stays(change: str, tmp_path: Path) -> None:
    pack = _pack(tmp_path, *HERE)
    staying = ("one", "patient")
    if change == "shrinking":
        pack.leave([_named(pack, "gone")])
        staying = ("patient",)
    numbers = {name: _numbers(pack, name) for name in staying}
    bank = pack.bank
    if change == "a larger rank":
        pack.join([make_member(Spec("late", ("lora.rank=6",)), tmp_path, 3)])
    elif change == "other layers":
        pack.join([make_member(Spec("late", ("lora.target_modules=all",)), tmp_path, 3)])
    elif change == "shrinking":
        pack.leave([_named(pack, "one")])
    else:
        pack.give_up(_named(pack, "gone"), {"lora.rank": 2})
    assert pack.bank is not bank
    assert None not in pack.bank.places
    for name in staying:
        assert _same(_numbers(pack, name), numbers[name])
        own = sum(value.numel() for value in pack.bank.state(name).values())
        assert int(pack.bank.weights[pack.bank.place(name)].count_nonzero()) <= own, "padding is zero"
    run_step(pack)
    pack.close()
    assert pack.bank.weights.numel() == 0, "what comes next finds the memory free"


@pytest.mark.slow
@pytest.mark.parametrize("free", [True, False])
def test_one_that_finds_no_memory_leaves_nothing_behind(
    free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = _pack(tmp_path, *HERE)
    pack.leave([_named(pack, "gone")])
    where, numbers = _addresses(pack, "one"), _numbers(pack, "one")
    members = list(pack.members)
    whole = PackOptimizer.add

    def scarce(self: PackOptimizer, member: str, config: object) -> None:
        if member == "late":
            raise MemoryError
        whole(self, member, config)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(PackOptimizer, "add", scarce)
        with pytest.raises(MemoryError):
            pack.join([make_member(Spec("late", ("lora.rank=2" if free else "lora.rank=9",)), tmp_path, 3)])
    assert pack.members == members
    assert pack.bank.places == ("one", None, "patient")
    assert not pack.bank.weights[1].any()
    assert _addresses(pack, "one") == where
    assert _same(_numbers(pack, "one"), numbers)
    pack.join([make_member(Spec("late", ("lora.rank=2",)), tmp_path, 3)])
    assert len(run_step(pack).stepped) == 2
    pack.close()


def test_who_cannot_move_into_a_smaller_bank_stays_in_the_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = _pack(tmp_path, *HERE)
    numbers, where = _numbers(pack, "patient"), _addresses(pack, "patient")

    def scarce(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Pack, "_optimizer", scarce)
        pack.leave([_named(pack, "one"), _named(pack, "gone")])
    assert pack.bank.places == (None, None, "patient")
    assert _same(_numbers(pack, "patient"), numbers)
    assert _addresses(pack, "patient") == where
    run_step(pack)
    pack.close()


@pytest.mark.slow
def test_who_joins_a_used_place_equals_its_solo_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two steps of three who do not lie evenly apart."""
    entered, whole = [], AdapterBank.enter
    monkeypatch.setattr(AdapterBank, "enter", lambda self, member: entered.append(member) or whole(self, member))
    short = Spec("short", ("trainer.max_steps=4", "lora.rank=4", "seed=8"))
    second = Spec("second", ("seed=5", "lora.dropout=0.2", "lora.rank=2"))
    late = DIFFERENCES["dropout"]
    patient = Spec("patient", ("trainer.accumulate=2", "trainer.max_steps=5", "lora.rank=3"))
    joined(tmp_path / "packed", [PLAIN, second, short, patient], late, after=6)
    assert entered == [late.name]
    for spec in (second, patient, late):
        solo = undisturbed(spec)
        assert distance(weights(tmp_path / "packed", spec.name), solo.weights(spec.name)) < LIMIT
