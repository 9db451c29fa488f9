"""Which jobs share a pack."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.launch.plan.packing import MOST_MEMBERS, MOST_ROWS, make_plan
from tests.launch.jobs import job

_VALUES = st.fixed_dictionaries(
    {
        "lora__rank": st.sampled_from([1, 4, 8]),
        "data__batch_size": st.sampled_from([1, 2, 4, 7, 24]),
        "seed": st.integers(0, 3),
        "trainer__precision": st.sampled_from(["32-true", "bf16-mixed"]),
        "data__resolution": st.sampled_from([64, 128]),
        "trainer__max_steps": st.sampled_from([10, 100]),
    }
)
_JOBS = st.lists(_VALUES, min_size=1, max_size=14)
_SIZE = st.one_of(st.none(), st.integers(1, 5))


@pytest.mark.slow
@given(_JOBS, _SIZE)
def test_each_job_is_in_exactly_one_pack_and_the_limits_hold(values: list[dict[str, Any]], size: int | None) -> None:
    jobs = {number: job(**one) for number, one in enumerate(values)}
    packs = make_plan(jobs, size).packs
    assert sorted(number for pack in packs for number in pack.jobs) == list(jobs)
    assert [pack.name for pack in packs] == [f"pack-{number}" for number in range(len(packs))]
    for pack in packs:
        assert len({(jobs[n].trainer.precision, jobs[n].data.resolution) for n in pack.jobs}) == 1
        assert pack.rows == sum(jobs[n].data.batch_size for n in pack.jobs)
        assert len(pack.jobs) <= (size or MOST_MEMBERS)
        assert size is not None or pack.rows <= MOST_ROWS or len(pack.jobs) == 1


@pytest.mark.slow
@given(st.data(), st.lists(_VALUES, min_size=1, max_size=10, unique_by=lambda one: tuple(one.values())), _SIZE)
def test_packs_do_not_depend_on_the_order_of_jobs(data: st.DataObject, values: list[dict], size: int | None) -> None:
    order = data.draw(st.permutations(range(len(values))))
    first = make_plan({number: job(**one) for number, one in enumerate(values)}, size)
    second = make_plan({place: job(**values[number]) for place, number in enumerate(order)}, size)
    assert {frozenset(pack.jobs) for pack in first.packs} == {
        frozenset(order[place] for place in pack.jobs) for pack in second.packs
    }


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("model__path", "a", "b"),
        ("model__prediction_type", "epsilon", "v_prediction"),
        ("data__resolution", 64, 128),
        ("trainer__precision", "32-true", "bf16-true"),
        ("trainer__gradient_checkpointing", False, True),
        ("trainer__accelerator", "cpu", "gpu"),
    ],
)
def test_what_cannot_differ_makes_another_pack_and_the_reason_names_key_values_and_jobs(
    key: str, one: Any, other: Any
) -> None:
    plan = make_plan({0: job(**{key: one}), 1: job(**{key: other}), 2: job(**{key: one})})
    assert [pack.jobs for pack in plan.packs] == [(0, 2), (1,)]
    (reason,) = plan.reasons
    for word in (key.replace("__", "."), str(one), str(other), "jobs 0, 2", "job 1"):
        assert word in reason


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("lora__rank", 4, 8),
        ("lora__alpha", 1.0, 2.0),
        ("lora__dropout", 0.0, 0.1),
        ("lora__target_modules", "attention", "all"),
        ("lora__use_rslora", True, False),
        ("optimizer__lr", 1e-3, 1e-2),
        ("optimizer__weight_decay", 0.0, 0.1),
        ("scheduler__name", "cosine", "linear"),
        ("data__batch_size", 1, 4),
        ("data__path", "a", "b"),
        ("trainer__accumulate", 1, 2),
        ("trainer__max_steps", 10, 20),
        ("seed", 0, 1),
    ],
)
def test_what_is_a_members_own_may_differ_inside_a_pack(key: str, one: Any, other: Any) -> None:
    plan = make_plan({0: job(**{key: one}), 1: job(**{key: other})})
    assert [pack.jobs for pack in plan.packs] == [(0, 1)]
    assert plan.reasons == ()


def test_a_value_that_several_packs_have_is_listed_once() -> None:
    values = [(name, precision) for precision in ("32-true", "bf16-true") for name in ("one", "two")]
    jobs = {i: job(model__name=name, trainer__precision=precision) for i, (name, precision) in enumerate(values)}
    assert make_plan(jobs).reasons[:2] == (
        "model cannot differ inside a pack: one (jobs 0, 2), two (jobs 1, 3)",
        "trainer.precision cannot differ inside a pack: 32-true (jobs 0-1), bf16-true (jobs 2-3)",
    )


def test_bases_of_one_name_are_told_by_what_differs() -> None:
    jobs = {i: job(model__name=name, model__path=path) for i, (name, path) in enumerate(("ax", "ay", "bx"))}
    assert make_plan(jobs).reasons[0] == "model.name cannot differ inside a pack: a (jobs 0-1), b (job 2)"
    assert make_plan(jobs).reasons[1] == "model.path cannot differ inside a pack: x (jobs 0, 2), y (job 1)"


def test_packs_of_a_cut_group_are_even() -> None:
    jobs = {number: job(seed=number, data__batch_size=1) for number in range(9)}
    assert [len(pack.jobs) for pack in make_plan(jobs).packs] == [5, 4]
    assert [len(pack.jobs) for pack in make_plan(jobs, 4).packs] == [3, 3, 3]


def test_pack_size_sets_the_row_limit_aside() -> None:
    jobs = {number: job(seed=number, data__batch_size=16) for number in range(3)}
    assert [pack.rows for pack in make_plan(jobs).packs] == [16, 16, 16]
    assert [pack.rows for pack in make_plan(jobs, 3).packs] == [48]


def test_ranks_4_8_16_of_the_demo_make_one_pack() -> None:
    jobs = {number: job(lora__rank=rank) for number, rank in enumerate((4, 8, 16))}
    (pack,) = make_plan(jobs).packs
    assert (pack.jobs, pack.rows) == ((0, 1, 2), 12)


def test_the_cut_of_like_jobs_follows_their_values_not_their_numbers() -> None:
    seeds = (0, 1, 2, 3)
    packs = [
        {frozenset(order[number] for number in pack.jobs) for pack in make_plan(jobs, 2).packs}
        for order in (seeds, (2, 0, 3, 1))
        for jobs in [{number: job(seed=seed) for number, seed in enumerate(order)}]
    ]
    assert packs[0] == packs[1] == {frozenset({0, 1}), frozenset({2, 3})}
