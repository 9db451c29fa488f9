"""How long a sweep takes yet, against simulated sweeps whose true end is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lora_foundry.launch.farm.remaining import Remaining
from lora_foundry.launch.farm.stations import Station
from lora_foundry.launch.farm.waiting import Task
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.clock import END_S, NEXT_S, START_S, Clock, NoPace
from lora_foundry.launch.plan.packing import PackPlan
from lora_foundry.launch.records.live_jobs import LiveJob
from lora_foundry.launch.records.state import SweepState, fold
from lora_foundry.wire.events import ProgressEvent
from lora_foundry.wire.journal import JobLine
from lora_foundry.wire.states import State
from tests.launch.jobs import job, live

STEPS = 100
SLOT = Slot(name="cpu", device="cpu")


def _jobs(count: int) -> dict[int, LiveJob]:
    config = job(trainer__max_steps=STEPS)
    return {number: live(number, config) for number in range(count)}


@dataclass
class Simulated:
    """Packs on slots that take, in truth, so long to start, to step and to end."""

    packs: list[tuple[int, ...]]
    slots: int
    start_s: float
    step_s: float
    end_s: float
    now: float = 1000.0
    done_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.jobs = _jobs(sum(map(len, self.packs)))
        self.state = SweepState(jobs={number: one.now for number, one in self.jobs.items()})
        self.stations = [Station(slot=Slot(name=f"cpu-{n}", device="cpu")) for n in range(self.slots)]
        self.waiting = list(self.packs)
        self.began: dict[str, float] = {}
        self.warm: set[str] = set()
        self.clock = Clock(NoPace(), SLOT, trace=False)
        self.remaining = Remaining(self.clock, self.jobs)

    def tick(self, seconds: float) -> float | None:
        """Let time pass and look."""
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            for station in self.stations:
                self._go_on(station)
            left = self.remaining.look(self.stations, self.waiting, self.now)
        return left

    def _go_on(self, station: Station) -> None:
        slot = station.slot.name
        if station.task is None and self.waiting:
            jobs = self.waiting.pop(0)
            station.task = Task(pack=PackPlan(name=f"p{jobs}", jobs=jobs, rows=4), spool=Path("x"))
            self.began[slot] = self.now + (self.start_s if slot not in self.warm else 1.0)
            self.warm.add(slot)
        if station.task is None:
            return
        at, jobs = self.now - self.began[slot], station.task.pack.jobs
        step = max(0, min(STEPS, int(at / self.step_s)))
        for number in jobs:
            member = self.jobs[number]
            if step > member.step:
                told = self.began[slot] + step * self.step_s
                fold(
                    self.state,
                    ProgressEvent(
                        t=told,
                        job=number,
                        step=step,
                        total=STEPS,
                        samples=step,
                        loss=None,
                        samples_per_s=None,
                        memory_gib=None,
                    ),
                )
            if at >= STEPS * self.step_s + self.end_s * len(jobs):
                self.end(number, "FINISHED")
        if all(self.jobs[number].ended for number in jobs):
            station.task = None

    def end(self, number: int, state: State) -> None:
        """A job is over."""
        fold(self.state, JobLine(job=number, state=state, error=None, summary=None))

    def truth(self) -> float:
        """Seconds until all has ended, by letting it happen."""
        asked = self.now
        while self.waiting or any(station.task for station in self.stations):
            self.tick(0.5)
        return self.now - asked


def test_the_plan_alone_is_what_is_known_at_first() -> None:
    simulated = Simulated(packs=[(0, 1), (2, 3)], slots=1, start_s=9.0, step_s=0.1, end_s=1.0)
    left = simulated.tick(0.5)
    steps = simulated.clock.steps_s([job(trainer__max_steps=STEPS)] * 2, [STEPS] * 2)
    assert left == pytest.approx(START_S + NEXT_S + 2 * steps + 4 * END_S, abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("step_s", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("end_s", [0.5, 6.0])
def test_what_was_measured_corrects_the_plan(slots: int, step_s: float, end_s: float) -> None:
    """After a pack of several is over its steps and ends are known, and the rest is told within a tenth."""
    packs = [(2 * n, 2 * n + 1) for n in range(6)]
    simulated = Simulated(packs=packs, slots=slots, start_s=14.0, step_s=step_s, end_s=end_s)
    simulated.tick(14.0 + STEPS * step_s + 2 * end_s + 2.0 + STEPS * step_s / 2)
    left = simulated.tick(0.5)
    assert left == pytest.approx(simulated.truth(), rel=0.1, abs=3.0)


@pytest.mark.slow
def test_steps_that_are_slower_than_planned_are_told_while_the_first_pack_trains() -> None:
    simulated = Simulated(packs=[(0, 1), (2, 3)], slots=1, start_s=9.0, step_s=3.0, end_s=0.5)
    simulated.tick(9.0 + 60.0)
    left = simulated.tick(0.5)
    assert left == pytest.approx(simulated.truth(), rel=0.1)


def test_a_job_that_ends_or_comes_makes_other_steps() -> None:
    """What steps of two took says nothing of those of one: the count begins again."""
    simulated = Simulated(packs=[(0, 1)], slots=1, start_s=2.0, step_s=1.0, end_s=0.5)
    simulated.tick(20.0)
    simulated.end(1, "KILLED")
    first = simulated.remaining.look(simulated.stations, [], simulated.now)
    assert first is not None
    assert first == pytest.approx(82 * simulated.remaining._factor * simulated.clock.steps_s([job()], [1]), rel=0.1)


def test_nothing_is_told_while_nothing_trains() -> None:
    remaining = Remaining(Clock(NoPace(), SLOT, trace=False), _jobs(2))
    assert remaining.look([Station(slot=SLOT)], [(0, 1)], 5.0) is None


def test_a_pack_whose_jobs_have_all_ended_and_that_its_worker_did_not_leave_yet(tmp_path: Path) -> None:
    simulated = Simulated(packs=[(0, 1)], slots=1, start_s=2.0, step_s=1.0, end_s=0.5)
    simulated.tick(20.0)
    for number in simulated.jobs:
        simulated.end(number, "FINISHED")
    for jobs in ((0, 1), ()):
        simulated.stations[0].task = Task(pack=PackPlan(name="p(0, 1)", jobs=jobs, rows=4), spool=tmp_path)
        assert simulated.remaining.look(simulated.stations, [], simulated.now) == 0.0
    unknown = Remaining(simulated.clock, simulated.jobs)
    assert unknown.look(simulated.stations, [(), (0, 1)], 5.0) == pytest.approx(START_S)
