"""A joined batch: whose sample is where, and the same rows in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_foundry.lora.dropout import DropoutKey
from lora_foundry.training.batch import PackBatch, assemble
from lora_foundry.training.pack import Pack
from tests.training.oracle import Oracle
from tests.training.world import Spec, make_member, make_task

SPECS = (
    Spec("a", ("data.batch_size=3", "lora.dropout=0.2", "data.caption_dropout=0.5", "seed=3")),
    Spec("b", ("data.batch_size=1", "objective.noise_offset=0.3", "data.flip=false"), n_images=4),
    Spec("c", ("data.batch_size=2", "seed=8")),
)


def _assembled(root: Path, *specs: Spec, dtype: torch.dtype = torch.float64) -> tuple[Pack, PackBatch]:
    pack = Pack(make_task(), [make_member(spec, root) for spec in specs])
    for index, member in enumerate(pack.members):
        member.count.ordinal = 5 * index
    return pack, assemble(pack.task, pack.members, pack.bank, dtype=dtype)


@pytest.mark.slow
def test_each_row_is_its_members_own_sample(tmp_path: Path) -> None:
    pack, batch = _assembled(tmp_path, *SPECS)
    assert batch.plan.places == (0, 1, 2)
    assert batch.plan.counts == (3, 1, 2)
    assert batch.members == tuple(pack.members)
    for member, rows in zip(pack.members, batch.plan.slices(), strict=True):
        oracle = Oracle(member, "v_prediction", [])
        for row in range(rows.start, rows.stop):
            ordinal = member.count.ordinal + row - rows.start
            latents, noise, timestep, states = oracle.sample(ordinal)
            assert torch.equal(batch.rows.inputs["latents"][row], latents)
            torch.testing.assert_close(batch.rows.inputs["noise"][row], noise, rtol=1e-12, atol=1e-12)
            assert int(batch.rows.inputs["timesteps"][row]) == int(timestep)
            assert torch.equal(batch.rows.inputs["encoder_hidden_states"][row], states)
            p = member.config.lora.dropout
            key = DropoutKey(seed=member.config.seed, ordinal=ordinal, probability=p)
            assert batch.plan.dropout[row] == key


@pytest.mark.slow
def test_without_dropout_a_plan_has_no_keys(tmp_path: Path) -> None:
    _, batch = _assembled(tmp_path, *SPECS[1:])
    assert batch.plan.dropout == ()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_has_the_adapters_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    _, batch = _assembled(tmp_path, *SPECS, dtype=dtype)
    assert {values.dtype for name, values in batch.rows.inputs.items() if name != "timesteps"} == {dtype}
    assert batch.rows.weight.dtype == dtype


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, None])
def test_parts_are_the_whole_in_pieces(rows: int | None, tmp_path: Path) -> None:
    pack, batch = _assembled(tmp_path, *SPECS)
    parts = batch.cut(rows)
    if rows is None or rows >= 6:
        assert parts == [batch]
    expected = {1: [(1,)] * 6, 2: [(2,), (1, 1), (2,)], 3: [(3,), (1, 2)], 4: [(3, 1), (2,)], 5: [(3, 1), (2,)]}
    assert [part.plan.counts for part in parts] == expected.get(rows or 6, [(3, 1, 2)])
    assert set(batch.rows.inputs) == {"latents", "noise", "timesteps", "encoder_hidden_states"}
    for name, values in batch.rows.inputs.items():
        assert torch.equal(torch.cat([part.rows.inputs[name] for part in parts]), values)
    assert torch.equal(torch.cat([part.rows.weight for part in parts]), batch.rows.weight)
    assert sum((part.plan.dropout for part in parts), ()) == batch.plan.dropout
    owners = [m for part in parts for m, n in zip(part.members, part.plan.counts, strict=True) for _ in range(n)]
    assert [member.name for member in owners] == ["a", "a", "a", "b", "c", "c"]
    places = [p for part in parts for p, n in zip(part.plan.places, part.plan.counts, strict=True) for _ in range(n)]
    assert places == [pack.bank.place(member.name) for member in owners]
