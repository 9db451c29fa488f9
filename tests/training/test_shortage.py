"""A pack that runs out of memory gives way, and ends with what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.lora.rows import RowPlan
from lora_foundry.tasks import StepRows
from lora_foundry.training.batch import PackBatch
from lora_foundry.training.pack import Pack
from lora_foundry.training.shortage import OutOfMemoryError, in_fewer_rows, is_out_of_memory
from lora_foundry.wire.events import StateEvent
from tests.training.world import Spec, distance, make_member, make_task, train, undisturbed

MIXED = [
    Spec("a", ("data.batch_size=4", "lora.dropout=0.2", "validation.every=4")),
    Spec("b", ("data.batch_size=1", "lora.rank=2", "trainer.accumulate=2", "seed=5")),
    Spec("c", ("data.batch_size=2", "trainer.max_steps=5", "lora.target_modules=all")),
]


class FailsOnce:
    """A relief whose ``check`` fails at chosen calls, and which takes one measure at each."""

    def __init__(self, *at: int, measure: Any = None) -> None:
        self.calls = 0
        self.reasons: list[str] = []
        self._at = set(at)
        self._measure = measure or (lambda _pack: None)

    def check(self) -> None:
        if not torch.is_grad_enabled():
            return  # scoring takes fewer rows by itself
        self.calls += 1
        if self.calls in self._at:
            msg = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
            raise RuntimeError(msg)

    def give_way(self, pack: Pack, reason: str) -> None:
        self.reasons.append(reason)
        self._measure(pack)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3, 4])  # of 7
def test_the_rows_of_a_forward_change_nothing(rows: int, tmp_path: Path) -> None:
    asked = undisturbed(*MIXED)

    def measure(pack: Pack) -> None:
        pack.rows = rows

    relief = FailsOnce(1, measure=measure)
    eased = train(MIXED, tmp_path / "eased", relief=relief)
    assert len(relief.reasons) == 1
    for spec in MIXED:
        assert distance(eased.weights(spec.name), asked.weights(spec.name)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("call", [3, 30, 180, 320])  # of 490
def test_a_step_that_fails_anywhere_is_taken_back_and_taken_again(call: int, tmp_path: Path) -> None:
    asked = undisturbed(*MIXED)
    relief = FailsOnce(call, call + 110)
    again = train(MIXED, tmp_path / "again", relief=relief)
    assert len(relief.reasons) == 2
    for spec in MIXED:
        assert distance(again.weights(spec.name), asked.weights(spec.name)) < 1e-9


@pytest.mark.slow
def test_members_set_aside_train_to_the_same_end(tmp_path: Path) -> None:
    asked = undisturbed(*MIXED)

    def measure(pack: Pack) -> None:
        pack.set_members_aside(pack.active[1:])

    eased = train(MIXED, tmp_path / "eased", relief=FailsOnce(250, measure=measure))
    for job, spec in enumerate(MIXED):
        assert distance(eased.weights(spec.name), asked.weights(spec.name)) < 1e-9
        assert eased.states(job)[-1] == "FINISHED"


@pytest.mark.slow
def test_checkpointing_may_begin_in_the_middle(tmp_path: Path) -> None:
    asked = undisturbed(*MIXED)

    def measure(pack: Pack) -> None:
        pack.checkpointing = True

    eased = train(MIXED, tmp_path / "eased", relief=FailsOnce(200, measure=measure))
    for spec in MIXED:
        assert distance(eased.weights(spec.name), asked.weights(spec.name)) < 1e-9


@pytest.mark.slow
def test_without_relief_the_members_fail_and_say_why(tmp_path: Path) -> None:
    class NoWay(FailsOnce):
        def give_way(self, pack: Pack, reason: str) -> None:
            raise OutOfMemoryError(f"nothing left to change in {len(pack.active)}: {reason}")

    trained = train(MIXED[:2], tmp_path, relief=NoWay(100))
    ends = [e for e in trained.events if isinstance(e, StateEvent) and e.state == "FAILED"]
    assert [e.job for e in ends] == [0, 1]
    assert "can't allocate memory" in ends[0].error


@pytest.mark.slow
def test_another_error_is_no_shortage(tmp_path: Path) -> None:
    class Broken(FailsOnce):
        def check(self) -> None:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(MIXED[:1], tmp_path, relief=Broken())


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adafactor", "prodigy"])
def test_a_librarys_optimizer_that_fails_half_way_is_taken_back(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec("a", (f"optimizer.name={optimizer}", "optimizer.lr=0.5"))
    asked = undisturbed(spec)
    cls = __import__("prodigyopt").Prodigy if optimizer == "prodigy" else torch.optim.Adafactor
    whole, calls = cls.step, []

    def half(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        calls.append(1)
        result = whole(self, closure)
        if len(calls) == 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")
        return result

    monkeypatch.setattr(cls, "step", half)
    again = train([spec], tmp_path / "again", relief=FailsOnce())
    assert len(calls) == 9
    assert distance(again.weights("a"), asked.weights("a")) < 1e-9


@pytest.mark.slow
def test_adapters_that_do_not_fit_together_train_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = undisturbed(*MIXED)
    build, sizes = Pack._optimizer, []

    def only_for_one(self: Pack) -> Any:
        sizes.append(len(self.members))
        if len(self.members) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return build(self)

    monkeypatch.setattr(Pack, "_optimizer", only_for_one)
    eased = train(MIXED, tmp_path / "eased")
    assert sizes[0] == 3
    for job, spec in enumerate(MIXED):
        assert distance(eased.weights(spec.name), asked.weights(spec.name)) < 1e-9
        assert eased.states(job) == ["RUNNING", "FINISHED"]


def test_parts_of_a_batch_hold_every_row_once() -> None:
    latents = torch.arange(7.0)[:, None]
    batch = PackBatch(
        rows=StepRows(inputs={"latents": latents}, weight=torch.ones(7)),
        plan=RowPlan(places=(0, 2, 1), counts=(4, 1, 2)),
        members=("a", "b", "c"),  # type: ignore[arg-type]  # only carried along
    )
    parts = batch.cut(3)
    assert [part.plan.counts for part in parts] == [(3,), (1, 1), (2,)]
    assert [part.plan.places for part in parts] == [(0,), (0, 2), (1,)]
    assert [part.members for part in parts] == [("a",), ("a", "b"), ("c",)]
    assert torch.cat([part.rows.inputs["latents"] for part in parts]).equal(latents)
    assert batch.cut(None) == [batch]
    assert [part.plan.n_rows for part in batch.cut(1)] == [1] * 7


@pytest.mark.slow
def test_scoring_takes_fewer_rows_where_memory_is_short() -> None:
    tried = []

    def call(rows: int) -> str:
        tried.append(rows)
        if rows > 2:
            raise MemoryError
        return "done"

    assert in_fewer_rows(call, 16, torch.device("cpu")) == ("done", 2)
    assert tried == [16, 8, 4, 2]
    with pytest.raises(MemoryError):
        in_fewer_rows(lambda rows: call(rows + 2), 4, torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (OutOfMemoryError("short"), True),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_allocation_that_fails_counts() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_member_that_starts_anew_leaves_the_pack(tmp_path: Path) -> None:
    member = make_member(Spec("a"), tmp_path, job=7)
    pack = Pack(make_task(), [member])
    pack.give_up(member, {"lora.rank": 2})
    assert pack.changed == {7: {"lora.rank": 2}}
    assert not pack.members
