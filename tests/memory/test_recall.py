"""What operations give for tensors without content is the same when it is not worked out anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lora_foundry.config.compose import compose_job
from lora_foundry.memory import trace
from lora_foundry.memory.recall import Recall
from lora_foundry.memory.tally import Tally
from lora_foundry.memory.trace import Traced
from lora_foundry.models.opening import open_sizes

META = torch.device("meta")


@pytest.mark.slow
def test_a_trace_is_what_it_is_without(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_job("lora.target_modules=[to_q,conv1]", "lora.dropout=0.1", "trainer.gradient_checkpointing=true")
    sizes = open_sizes(config.model)
    recalled = _told(trace._steps(sizes, config, "fused", [[1], [2]]))
    monkeypatch.setattr(Recall, "run", lambda _, func, args, kwargs: func(*args, **kwargs))
    assert _told(trace._steps(sizes, config, "fused", [[1], [2]])) == recalled


def _told(traced: Traced) -> Any:
    steps = {rows: (step.peak, step.ops, step.flops, vars(step.spots)) for rows, step in traced.steps.items()}
    return traced.weights, traced.floats, traced.copies, traced.row_more, steps, traced.forwards


@pytest.fixture
def tally() -> Tally:
    return Tally(grain=1, recall=Recall())


def test_the_second_of_a_layout_has_its_layout_and_a_storage_of_its_own(tally: Tally) -> None:
    with tally:
        given = torch.empty(3, 4, device=META).t()
        one, other = given * 2.0, given * 2.0
    assert (other.shape, other.stride(), other.dtype) == (one.shape, one.stride(), one.dtype)
    assert other.untyped_storage()._cdata != one.untyped_storage()._cdata
    assert tally.live == given.nbytes + one.nbytes + other.nbytes


def test_numbers_of_another_type_give_another_dtype(tally: Tally) -> None:
    with tally:
        given = torch.ones(3, dtype=torch.int32, device=META)
        assert [(given * factor).dtype for factor in (1, 1.0, True)] == [torch.int32, torch.float32, torch.int32]


@pytest.mark.parametrize("share", [torch.ops.aten._unsafe_view, torch.ops.aten.view])
def test_what_shares_a_storage_shares_it_again(share: Any, tally: Tally) -> None:
    with tally:
        one, other = torch.empty(6, device=META), torch.empty(6, device=META)
        for given in (one, other):
            assert share(given, [2, 3]).untyped_storage()._cdata == given.untyped_storage()._cdata


def test_what_changes_a_tensor_gives_that_tensor(tally: Tally) -> None:
    with tally:
        for given in (torch.empty(3, device=META), torch.empty(3, device=META)):
            assert given.add_(1) is given


def test_content_is_worked_out_each_time(tally: Tally) -> None:
    with tally:
        assert [(torch.full((2,), value) + 1).tolist() for value in (1.0, 2.0)] == [[2.0, 2.0], [3.0, 3.0]]


def test_what_gives_several_gives_several(tally: Tally) -> None:
    def normed(x: Tensor) -> tuple[Any, ...]:
        return torch.ops.aten.native_layer_norm.default(x, [4], None, None, 1e-5)

    with tally:
        one, other = normed(torch.empty(3, 4, device=META)), normed(torch.empty(3, 4, device=META))
    assert [part.shape for part in other] == [part.shape for part in one]
    assert isinstance(other, tuple)


def test_a_layout_is_worked_out_once() -> None:
    recall = Recall()
    calls: list[int] = []
    multiply = torch.ops.aten.mul.Tensor

    class Multiply:
        _schema = multiply._schema

        def __call__(self, *args: Any) -> Any:
            calls.append(1)
            return multiply(*args)

    func = Multiply()
    for rows in (2, 2, 3):
        recall.run(func, (torch.empty(rows, device=META), 2.0), {})
    assert len(calls) == 2
