"""How bench.memory calibrates, and what it then says of its claims."""

from __future__ import annotations

import pytest

from bench.memory import MIB, Case, calibrated, judge


def test_the_calibration_finds_a_factor_and_what_the_process_has_of_its_own() -> None:
    predicted = [60.0 * MIB, 100.0 * MIB, 400.0 * MIB, 1500.0 * MIB]
    factor, fixed = calibrated(predicted, [1.02 * guess + 9 * MIB for guess in predicted])
    assert factor == pytest.approx(1.02)
    assert fixed == pytest.approx(9 * MIB)


def test_two_kinds_give_a_factor_alone() -> None:
    assert calibrated([100.0, 200.0], [110.0, 220.0]) == (pytest.approx(1.1), 0.0)


@pytest.mark.parametrize(("off", "holds"), [(1.0, [True, True]), (1.03, [False, True]), (1.4, [False, False])])
def test_a_kind_that_is_off_is_seen_although_the_line_is_drawn_with_it(off: float, holds: list[bool]) -> None:
    cases = [Case(base="tiny-sd", resolution=64, batch=rows) for rows in (1, 2, 4, 8, 16)]
    predicted = [MIB * (500.0 + 100 * case.batch) for case in cases]
    real = [guess * (off if case.batch == 4 else 1.0) for case, guess in zip(cases, predicted, strict=True)]
    measured = [{"tensors": size, "process": 1.02 * size + 8 * MIB} for size in real]
    result = judge(cases, predicted, measured, rounds=5, tracing=1.0, quick=False)
    assert [claim.holds for claim in result.claims] == holds


def test_what_a_heap_grows_by_at_a_time_is_no_fault() -> None:
    cases = [Case(base="tiny-sd", resolution=64, batch=rows) for rows in (1, 2, 4, 8, 16)]
    predicted = [MIB * (50.0 + 10 * case.batch) for case in cases]
    measured = [
        {"tensors": size, "process": size + (60 * MIB if case.batch == 4 else 0)}
        for case, size in zip(cases, predicted, strict=True)
    ]
    assert all(claim.holds for claim in judge(cases, predicted, measured, rounds=5, tracing=1.0, quick=False).claims)
