"""The queue: who may join, in which order, and what is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_foundry.launch.farm.waiting import Task, Waiting
from lora_foundry.launch.plan.packing import PackPlan
from lora_foundry.launch.records.live_jobs import LiveJob
from tests.launch.jobs import job, live


def _member(number: int, **values: Any) -> LiveJob:
    return live(number, job(data__batch_size=1, **values))


MEMBERS = {n: _member(n, trainer__max_steps=10 * n + 10) for n in range(6)} | {6: _member(6, data__resolution=128)}


def _task(name: str, *jobs: int, closed: bool = False) -> Task:
    pack = PackPlan(name=name, jobs=jobs, rows=len(jobs))
    return Task(pack=pack, spool=Path(f"{name}.jsonl"), closed=closed)


def _all(waiting: Waiting) -> list[tuple[str, tuple[int, ...]]]:
    found = []
    while (task := waiting.next()) is not None:
        found.append((task.pack.name, task.pack.jobs))
    return found


def test_the_longest_of_the_first_pack_joins_first_and_is_no_more_waiting() -> None:
    waiting = Waiting([_task("a", 1, 2), _task("b", 3)], MEMBERS)
    assert waiting.joiner([0], lambda configs: len(configs) <= 2) == 2
    assert waiting.joiner([0, 2], lambda configs: len(configs) <= 2) is None
    assert _all(waiting) == [("a", (1,)), ("b", (3,))]


def test_nobody_joins_out_of_a_pack_that_broke_nor_of_another_input() -> None:
    waiting = Waiting([_task("broken", 1, closed=True), _task("wide", 6)], MEMBERS)
    assert waiting.joiner([0], lambda _: True) is None
    assert _all(waiting) == [("broken", (1,)), ("wide", (6,))]


def test_an_empty_pack_is_gone() -> None:
    waiting = Waiting([_task("a", 1)], MEMBERS)
    assert waiting.joiner([0], lambda _: True) == 1
    assert not waiting


def test_packs_that_are_too_large_are_cut_with_names_of_their_own() -> None:
    waiting = Waiting([_task("a", 1, 2, 3), _task("broken", 4, 5, closed=True)], MEMBERS)
    made = waiting.recut(lambda _: 2)
    assert [pack.jobs for pack in made] == [(1, 2), (3,)]
    names = [name for name, _ in _all(waiting)]
    assert len(set(names)) == 3
    assert names[-1] == "broken"
