"""Packs within memory, on as many slots as there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.devices import Gpu
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.engines.local import LocalEngine
from lora_foundry.launch.plan.budget import GIB, NoForecast, Peak, budget_for
from lora_foundry.launch.plan.clock import NoPace
from lora_foundry.launch.plan.packing import Plan, make_plan
from tests.launch.fake_nvml import see
from tests.launch.jobs import job

CARD = Slot(name="cuda-0", device="cuda:0", model="A card", memory=10 * GIB)


class ARowAGib(NoPace):
    """A base of two GiB and one a row."""

    def __init__(self) -> None:
        self.traced: list[bool] = []

    def peak_of(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool) -> Peak | None:
        assert slot.model in ("A card", "cpu")
        self.traced.append(trace)
        return Peak(GIB * (2 + sum(config.data.batch_size for config in configs)))


def _plan(jobs: dict[int, JobConfig], *slots: Slot) -> Plan:
    budget = budget_for(ARowAGib(), slots, list(jobs.values()), shown=False)
    return make_plan(jobs, slots=len(slots), fits=budget.fits)


def test_packs_are_as_large_as_fits() -> None:
    plan = _plan({number: job(seed=number, data__batch_size=3) for number in range(4)}, CARD)
    assert [len(pack.jobs) for pack in plan.packs] == [2, 2], "2 + 3 + 3 GiB fit into 10, 2 + 9 do not"
    assert "what fits in memory" in plan.reasons[0]


class OldKeepsMore(NoPace):
    """A row takes two GiB on the old card, on which attention keeps its scores, and one on the new one."""

    def peak_of(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool) -> Peak | None:  # noqa: ARG002
        each = 2 if slot.capability == (7, 5) else 1
        return Peak(GIB * each * sum(config.data.batch_size for config in configs))


@pytest.mark.parametrize("old_first", [True, False])
def test_a_pack_has_to_fit_whichever_card_takes_it(old_first: bool) -> None:
    jobs = {number: job(seed=number, data__batch_size=3) for number in range(4)}
    new = replace(CARD, capability=(8, 6))
    old = replace(CARD, name="cuda-1", device="cuda:1", model="An old card", capability=(7, 5))
    budget = budget_for(OldKeepsMore(), [old, new] if old_first else [new, old], list(jobs.values()), shown=False)
    assert [budget.fits([*jobs.values()][:count]) for count in (1, 2)] == [True, False], "2 x 6 GiB on the old one"


class DrawsMore(ARowAGib):
    """Drawing takes so many GiB, and half of one for each member."""

    def __init__(self, gib: float) -> None:
        super().__init__()
        self._gib = gib

    def peak_of(self, configs: Sequence[JobConfig], slot: Slot, *, trace: bool) -> Peak | None:
        steps = super().peak_of(configs, slot, trace=trace)
        return steps and replace(steps, other=int(GIB * (self._gib + len(configs) / 2)))


@pytest.mark.parametrize(
    ("gib", "packs"),
    [
        (2.0, [4, 4]),  # steps of 2 + 8 GiB fit into 10
        (9.0, [2, 2, 2, 2]),  # 9 + 1 do, 9 + 1.5 do not
        (9.6, [4, 4]),  # 10.1 alone: to train apart would save nothing
    ],
)
def test_packs_are_as_large_as_has_room_to_draw_too(gib: float, packs: list[int]) -> None:
    jobs = {number: job(seed=number, data__batch_size=2) for number in range(8)}
    budget = budget_for(DrawsMore(gib), [CARD], list(jobs.values()), shown=False)
    plan = make_plan(jobs, pack_size=8, fits=budget.fits)
    assert [len(pack.jobs) for pack in plan.packs] == packs


def test_a_job_that_fits_nowhere_is_alone() -> None:
    plan = _plan({0: job(data__batch_size=16), 1: job(data__batch_size=1)}, CARD)
    assert sorted(pack.jobs for pack in plan.packs) == [(0,), (1,)]


def test_the_smaller_of_limit_and_slot_counts() -> None:
    jobs = {number: job(seed=number, data__batch_size=1, memory__limit_gib=4.0) for number in range(4)}
    assert [len(pack.jobs) for pack in _plan(jobs, CARD).packs] == [2, 2]


def test_no_slot_is_left_idle() -> None:
    jobs = {number: job(seed=number, data__batch_size=1) for number in range(4)}
    other = Slot(name="cuda-1", device="cuda:1", model="A card", memory=10 * GIB)
    assert [len(pack.jobs) for pack in _plan(jobs, CARD, other).packs] == [2, 2]


def test_the_longest_begins_first() -> None:
    jobs = {0: job(trainer__max_steps=10, model__name="one"), 1: job(trainer__max_steps=500, model__name="two")}
    other = Slot(name="cuda-1", device="cuda:1", model="A card", memory=10 * GIB)
    assert [pack.jobs for pack in _plan(jobs, CARD, other).packs] == [(1,), (0,)]


@pytest.mark.parametrize(
    ("slot", "limit", "shown", "traced"),
    [
        (CARD, None, False, True),
        (Slot(name="cpu", device="cpu", memory=GIB), None, False, False),
        (Slot(name="cpu", device="cpu", memory=GIB), 2.0, False, True),
        (Slot(name="cpu", device="cpu", memory=GIB), None, True, True),
    ],
)
def test_unknown_kinds_are_traced_where_it_matters(slot: Slot, limit: float | None, shown: bool, traced: bool) -> None:
    forecast, config = ARowAGib(), job(memory__limit_gib=limit)
    budget_for(forecast, [slot], [config], shown=shown).fits([config])
    assert forecast.traced == [traced]


def test_what_is_not_known_fits() -> None:
    config = job()
    assert budget_for(NoForecast(), [CARD], [config], shown=False).fits([config])


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [Gpu(index=n, uuid=f"GPU-{n}", name="A card", total=24 * GIB, free=20 * GIB) for n in (0, 1)]
    see(monkeypatch, *cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_cards")
def test_a_slot_a_card_less_the_reserve() -> None:
    slots = LocalEngine(Settings()).slots("auto")
    assert [(slot.name, slot.device, slot.memory) for slot in slots] == [
        ("cuda-0", "cuda:0", 16 * GIB),
        ("cuda-1", "cuda:1", 16 * GIB),
    ]
    assert "20.0 of 24.0 GiB free" in slots[0].about
    shared = LocalEngine(Settings(slots=2, devices=(1,), reserve=0.5)).slots("gpu")
    assert [(slot.name, slot.memory) for slot in shared] == [("cuda-1-0", 5 * GIB), ("cuda-1-1", 5 * GIB)]


@pytest.mark.usefixtures("two_cards")
def test_cards_that_the_user_hid_or_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SweepError, match=r"got \[0, 7\], allowed are 0, 1"):
        LocalEngine(Settings(devices=(0, 7))).slots("auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [slot.device for slot in LocalEngine(Settings()).slots("auto")] == ["cuda:1"]
    assert [slot.device for slot in LocalEngine(Settings()).slots("cpu")] == ["cpu"]


def test_no_card_where_one_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch)
    with pytest.raises(SweepError, match="shows none"):
        LocalEngine(Settings()).slots("gpu")
