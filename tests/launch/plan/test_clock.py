"""Times of packs and of a whole plan."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.clock import END_S, NEXT_S, START_S, Basis, Clock, NoPace, in_words, schedule, shape
from lora_foundry.launch.plan.packing import make_plan
from tests.launch.jobs import job

SLOT = Slot(name="cpu", device="cpu")


class Linear(NoPace):
    """A step takes ``fixed`` seconds and one a row."""

    def __init__(self, fixed: float, basis: Basis = "measured") -> None:
        self.fixed = fixed
        self.basis: Basis = basis

    def step_s(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool) -> tuple[float, Basis] | None:
        assert slot is SLOT
        assert not trace
        return self.fixed + sum(config.data.batch_size for config in configs), self.basis


def clock(fixed: float, basis: Basis = "measured") -> Clock:
    return Clock(Linear(fixed, basis), SLOT, trace=False)


def test_members_leave_a_pack_as_they_are_done() -> None:
    short = job(trainer__max_steps=10, data__batch_size=2)
    long = job(trainer__max_steps=25, data__batch_size=1)
    assert clock(5.0).pack_s([long, short]) == pytest.approx(10 * (5 + 3) + 15 * (5 + 1) + 2 * END_S)


def test_accumulation_takes_its_time() -> None:
    once = job(trainer__max_steps=10, data__batch_size=1)
    twice = job(trainer__max_steps=10, data__batch_size=1, trainer__accumulate=2)
    assert clock(1.0).pack_s([twice]) - END_S == pytest.approx(2 * (clock(1.0).pack_s([once]) - END_S))


def test_the_weakest_basis_is_told() -> None:
    ticking = clock(1.0, "estimated")
    ticking.pack_s([job()])
    assert ticking.basis == "estimated"
    ticking.pack_s([job(trainer__max_steps=None, trainer__epochs=2.0)])
    assert ticking.basis == "guessed", "how long an epoch is stands in the data"


@pytest.mark.slow
@given(st.lists(st.floats(1, 100), min_size=1, max_size=12), st.integers(1, 4))
def test_a_schedule_keeps_every_slot_busy(seconds: list[float], slots: int) -> None:
    end, places = schedule(seconds, slots)
    loads = [[took for took, place in zip(seconds, places, strict=True) if place == slot] for slot in range(slots)]
    ends = [sum(load) + START_S + NEXT_S * (len(load) - 1) for load in loads if load]
    assert end == pytest.approx(max(ends))
    assert len(ends) == min(slots, len(seconds))


def test_packs_are_small_where_training_together_gains_nothing() -> None:
    jobs = {n: job(seed=n, trainer__max_steps=100, data__batch_size=1) for n in range(4)}
    free = make_plan(jobs, slots=1, clock=clock(100.0))
    assert [len(pack.jobs) for pack in free.packs] == [4]
    busy = make_plan(jobs, slots=2, clock=clock(0.0))
    assert [len(pack.jobs) for pack in busy.packs] == [2, 2], "two slots, and no fewer packs than that"
    assert busy.ends_s == pytest.approx(START_S + 2 * END_S + 200)


def test_long_jobs_come_first_and_slots_end_together() -> None:
    lengths = [10, 20, 30, 40, 50, 60]
    jobs = {n: job(seed=n, trainer__max_steps=steps, data__batch_size=1) for n, steps in enumerate(lengths)}
    plan = make_plan(jobs, 1, slots=2, clock=clock(0.0))
    assert [pack.jobs for pack in plan.packs] == [(5,), (4,), (3,), (2,), (1,), (0,)]
    assert plan.ends_s == pytest.approx(START_S + 2 * NEXT_S + 3 * END_S + 110, abs=10)
    assert set(plan.slots) == {0, 1}


def test_words() -> None:
    assert [in_words(s) for s in (0.2, 99, 150, 7500)] == ["1 s", "99 s", "2 min", "2 h 05 min"]
    assert shape(1) == 1.0
    assert shape(5) == 2.0
