"""One fold: what a launcher has of a sweep while it runs is what its folder tells afterwards, and at any time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.reading import read_results, read_state
from lora_foundry.launch.records.record import StoredJob, StoredSweep, write_sweep
from lora_foundry.launch.records.state import SweepState
from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.control import ask_to_stop
from lora_foundry.wire.events import EVENTS, Event, JudgedEvent, ProgressEvent, StateEvent
from lora_foundry.wire.journal import (
    BeganLine,
    EndedLine,
    ExpectsLine,
    GainLine,
    JobLine,
    JournalLine,
    LauncherLine,
    MemoryLine,
    PackLine,
    RestartLine,
    ResumedLine,
    WaitingLine,
    WorkerLine,
)
from tests.launch.farm.sweep_in_memory import SweepInMemory, Sweeps
from tests.launch.jobs import job
from tests.launch.seeds import Seed
from tests.wire.summaries import summary

JOBS = 3


def _stop_two(made: SweepInMemory) -> None:
    made.when(lambda: made.jobs[0].step > 2, lambda: ask_to_stop(made.folder, 0))
    made.when(lambda: made.jobs[0].step > 4, made.interrupts.ask)


@pytest.mark.parametrize(
    ("packs", "then"),
    [
        ([[0, 1], [2, 3]], None),
        ([[0, Seed.DIVERGES, Seed.FAILS_LATE], [1]], None),
        ([[Seed.DIES_ONCE, 1, 2]], None),
        ([[0, Seed.DIES, 2, 3]], None),
        ([[0, 1, Seed.BREAKS], [4]], None),
        ([[Seed.GAINS_NOTHING, 1, 2, 3]], None),
        ([[Seed.HAS_NO_ROOM, 1], [2, 3]], None),
        ([[Seed.ENDLESS, Seed.ENDLESS, 1], [2]], _stop_two),
    ],
    ids=["good", "failing", "dying", "dying for good", "breaking", "handed back", "refused", "stopped"],
)
def test_the_live_state_is_what_the_folder_tells(
    sweep: Sweeps, packs: list[list[int]], then: Callable[[SweepInMemory], None] | None
) -> None:
    made = sweep(*packs, max_restarts=1, backoff_s=0.1).recorded()
    if then is not None:
        then(made)
    made.train()
    assert all(one.ended for one in made.state.jobs.values())
    assert read_state(made.folder) == made.state
    assert read_state(made.folder, running=True) == made.state
    assert made.state.outcomes(made.folder) == read_results(made.folder)


def test_the_live_state_is_what_the_folder_tells_while_jobs_train(sweep: Sweeps) -> None:
    """A launcher that has read all of the spool knows as much as whoever reads it now."""
    made = sweep([Seed.DIES_ONCE, 1, 2], [job(trainer__max_steps=40)]).recorded()
    told: list[bool] = []
    made.clock.watch = lambda: told.append(_steps(read_state(made.folder, running=True)) == _steps(made.state))
    made.train()
    assert told
    assert all(told)


def _steps(state: SweepState) -> list[tuple[str, int | None, int]]:
    return [(one.state, one.step, one.restarts) for one in state.jobs.values()]


@dataclass
class Story:
    """A sweep's folder as a launcher and its workers write it, and the state as the launcher has it."""

    folder: Path
    at: float = 100.0
    resumes: int = 0
    spools: dict[int, str] = field(default_factory=lambda: dict.fromkeys(range(JOBS), "pack-0"))

    def __post_init__(self) -> None:
        jobs = tuple(
            StoredJob(job=n, name=f"n{n}", dir=str(n), rank=4, overrides={}, pack="pack-0", config=None, warnings={})
            for n in range(JOBS)
        )
        self.stored = StoredSweep(format=1, id="x", command="c", created=1.0, cwd=None, config_dir=None, jobs=jobs)
        write_sweep(self.folder, self.stored)
        (self.folder / "spool").mkdir()
        self.journal = Journal(self.folder)
        self.journal.state = SweepState.of(self.stored)
        self.write(BeganLine(t=self.at, pack="pack-0", slot="cpu", jobs=tuple(range(JOBS))))

    def write(self, line: JournalLine) -> None:
        self.journal.write(line)

    def spool(self, number: int, event: Event) -> None:
        with (self.folder / "spool" / f"{self.spools[number]}.jsonl").open("ab") as file:
            file.write(EVENTS.written(event))

    def tell(self, number: int, what: str, step: int) -> None:
        """One thing happens to a job."""
        self.at += 1.0
        now, at = self.journal.state.jobs[number], self.at
        if what == "progress":
            event = ProgressEvent(
                t=at, job=number, step=step, total=9, samples=step, loss=0.5, samples_per_s=2.5, memory_gib=1.5
            )
            self.spool(number, event)
            self.journal.hear(event)
        elif what == "judged":
            judged = JudgedEvent(t=at, job=number, by_item=by_item(step, self.at % 7))
            self.spool(number, judged)
            self.journal.hear(judged)
        elif what in ("RUNNING", "FINISHED", "FAILED", "KILLED"):
            if now.ended:
                return  # the launcher writes no second end
            told = summary(steps=step, samples_per_s=7.5, val_loss_rel=0.9) if what == "FINISHED" and step % 2 else None
            self.spool(number, StateEvent(t=at, job=number, state=what, error=None, summary=told))
            for line in now.judged_lines():
                self.write(replace(line, t=at + 0.5))
            self.write(JobLine(t=at + 0.5, job=number, state=what, error=what.lower(), summary=told))
        elif what == "handed back" and not now.ended:
            self.write(JobLine(t=at, job=number, state="PENDING", error=None, summary=None))
            self.spools[number] = f"pack-0.{step}"
        elif what == "resumed":
            self.resumes += 1
            self.spools[number] = f"resume-{self.resumes}"
            self.write(ResumedLine(t=at, job=number, spool=f"resume-{self.resumes}.jsonl"))
        else:
            self.write(self._line(number, what, step))

    def _line(self, number: int, what: str, step: int) -> JournalLine:
        at, jobs = self.at, (number, (number + 1) % JOBS)
        lines: dict[str, JournalLine] = {
            "began": BeganLine(t=at, pack="pack-0", slot=f"cpu-{step}", jobs=jobs),
            "restart": RestartLine(t=at, pack="pack-0", jobs=jobs),
            "memory": MemoryLine(t=at, job=number, rung="halve"),
            "pack": PackLine(t=at, pack=f"pack-{step}", jobs=jobs, rows=2),
            "gain": GainLine(t=at, pack="p", key="k", members=2, rows=2, chosen=step, ratio=1.5, seconds={"2": 0.5}),
            "launcher": LauncherLine(t=at, host="h", pid=step, started=at),
            "worker": WorkerLine(t=at, state="started" if step % 2 else "ended", pid=number),
            "waiting": WaitingLine(t=at, lines=("x",) * (step % 2)),
            "expects": ExpectsLine(t=at, ends=at + step),
            "ended": EndedLine(t=at, exit_code=0),
            "handed back": RestartLine(t=at, pack="pack-0", jobs=()),
        }
        return lines[what]


def by_item(step: int, loss: float, *, rows: str = "r") -> ByItem:
    """Two images, of which one is as the base is."""
    return ByItem(step=step, samples=step, rows=rows, items=("a", "b"), relative=(loss, 1.0), base=(1.0, 1.0))


WHAT = (
    *("progress", "progress", "RUNNING", "FINISHED", "FAILED", "KILLED", "began", "handed back", "resumed", "resumed"),
    *("restart", "memory", "pack", "gain", "launcher", "worker", "waiting", "expects", "ended", "judged", "judged"),
)


@pytest.mark.slow
@given(told=st.lists(st.tuples(st.integers(0, JOBS - 1), st.sampled_from(WHAT), st.integers(1, 9)), max_size=30))
def test_whatever_happens_the_folder_tells_what_the_launcher_has(told: list[tuple[int, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        story = Story(Path(made))
        with story.journal:
            for one in told:
                story.tell(*one)
            assert read_state(story.folder, running=True) == story.journal.state
            assert read_state(story.folder) == story.journal.state, "nothing is in the spools that was not journalled"


def test_the_last_and_the_best_validation_of_a_job_outlive_its_spool(tmp_path: Path) -> None:
    story = Story(tmp_path)
    with story.journal:
        for step, loss in enumerate([0.8, 0.5, 0.7]):
            story.spool(0, event := JudgedEvent(t=story.at + step, job=0, by_item=by_item(step, loss)))
            story.journal.hear(event)
        assert read_state(tmp_path).jobs[0] == story.journal.state.jobs[0]
        story.at += 3
        story.tell(0, "KILLED", 3)
    for spool in tmp_path.glob("spool/*"):
        spool.unlink()
    told = read_state(tmp_path).jobs[0]
    assert (told.judged, told.best_judged) == (by_item(2, 0.7), by_item(1, 0.5))


def test_a_validation_that_is_told_after_a_jobs_end_changes_nothing(tmp_path: Path) -> None:
    """The journal would not have it, and whoever reads the folder would find another state than the launcher has."""
    story = Story(tmp_path)
    with story.journal:
        story.tell(0, "judged", 1)
        story.tell(0, "FAILED", 1)
        before = story.journal.state.jobs[0].judged
        story.journal.hear(JudgedEvent(t=story.at + 9, job=0, by_item=by_item(5, 0.1)))
        assert story.journal.state.jobs[0].judged == before
        assert read_state(tmp_path).jobs[0] == story.journal.state.jobs[0]


def test_a_validation_on_other_rows_is_never_worse_than_one_before(tmp_path: Path) -> None:
    story = Story(tmp_path)
    with story.journal:
        for rows, loss in (("r", 0.5), ("other", 0.9)):
            story.journal.hear(JudgedEvent(job=0, by_item=by_item(1, loss, rows=rows)))
    assert story.journal.state.jobs[0].best_judged == by_item(1, 0.9, rows="other")


@pytest.mark.parametrize(("relative", "step"), [(0.85, 2), (0.75, 1), (0.8, None)], ids=["last", "best", "neither"])
def test_an_outcome_has_the_validation_that_its_results_are_of(
    tmp_path: Path, relative: float, step: int | None
) -> None:
    story = Story(tmp_path)
    with story.journal:
        for at, loss in ((1, 0.5), (2, 0.7)):
            story.journal.hear(JudgedEvent(job=0, by_item=by_item(at, loss)))
        told = summary(val_loss_rel=relative)
        story.write(JobLine(job=0, state="FINISHED", error=None, summary=told))
    outcome = story.journal.state.outcomes(tmp_path)[0]
    assert (outcome.by_item.step if outcome.by_item else None) == step
