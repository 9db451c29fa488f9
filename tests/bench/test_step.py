"""What the step's bench compares is what it says."""

from __future__ import annotations

from bench.step import BATCHES, RANKS, SIZES, cases_of, mixed_batches
from bench.toy import Shape


def test_the_cases_are_the_issues() -> None:
    assert (SIZES, BATCHES, RANKS) == ((1, 2, 4, 8, 16), (1, 2, 4), (4, 8, 16))
    names = [case.name for case in cases_of(2, SIZES)]
    assert names[:5] == ["K=1 b=2", "K=2 b=2", "K=4 b=2", "K=8 b=2", "K=16 b=2"]


def test_a_plain_step_has_as_many_rows_as_its_pack() -> None:
    cases = [*cases_of(4, SIZES), *mixed_batches((3, 8))]
    assert all(case.rows == sum(shape.batch for shape in case.shapes) for case in cases)
    assert {case.rows for case in cases} == {4, 8, 16, 32, 64, 7, 17}


def test_mixed_ranks_are_mixed() -> None:
    mixed = next(case for case in cases_of(1, (4,)) if "ranks" in case.name)
    assert mixed.shapes == tuple(Shape(batch=1, rank=rank) for rank in (4, 8, 16, 4))
