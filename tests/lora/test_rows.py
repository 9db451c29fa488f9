"""Which rows are whose, by hand."""

from __future__ import annotations

import pytest
import torch

from lora_foundry.lora.dropout import DropoutKey
from lora_foundry.lora.rows import RowPlan

CPU, META = torch.device("cpu"), torch.device("meta")


def test_rows_lie_in_blocks_one_behind_the_other() -> None:
    plan = RowPlan(places=(2, 0, 2), counts=(1, 3, 2))
    assert plan.n_rows == 6
    assert plan.slices() == [slice(0, 1), slice(1, 4), slice(4, 6)]
    assert plan.block_of_row(CPU).tolist() == [0, 1, 1, 1, 2, 2]
    assert not plan.uniform
    assert RowPlan(places=(1, 0), counts=(2, 2)).uniform


def test_an_index_is_made_once_a_device() -> None:
    plan = RowPlan(places=(1, 0), counts=(1, 1))
    first = plan.block_of_row(CPU)
    assert first.device == CPU
    assert plan.block_of_row(META).device == META
    assert plan.block_of_row(CPU) is first


@pytest.mark.parametrize(
    ("places", "counts"), [((0, 1), (1,)), ((), ()), ((0,), (0,)), ((0, 1), (2, -1)), ((0,), (1, 1)), ((), (1,))]
)
def test_a_plan_that_names_no_rows_is_refused(places: tuple[int, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^got places .*, allowed is one count of at least 1 a place$"):
        RowPlan(places=places, counts=counts)


def test_dropout_keys_are_one_a_row() -> None:
    key = DropoutKey(seed=1, ordinal=2, probability=0.5)
    assert RowPlan(places=(0,), counts=(2,), dropout=(key, key)).dropout == (key, key)
    with pytest.raises(ValueError, match=r"^got 1 dropout keys, allowed is one for each of 2 rows$"):
        RowPlan(places=(0,), counts=(2,), dropout=(key,))
