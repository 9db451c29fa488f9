"""From the first worker to the table at the end: exit codes, results, and what the user is told to do next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.outcome import FAILED, INTERRUPTED, OK, OUTCOME
from lora_foundry.launch.plan.budget import NoForecast, budget_for
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.reading import read_state
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.wire.control import ask_to_stop
from lora_foundry.wire.journal import EndedLine
from lora_foundry.wire.outcomes import JobOutcome
from tests.launch.farm.sweep_in_memory import SweepInMemory, Sweeps
from tests.launch.jobs import job
from tests.launch.seeds import Seed

Through = Callable[[SweepInMemory], Farm]


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Through:
    """Leads a sweep in memory through the whole farm; its picture is ``picture.png``."""
    monkeypatch.setattr(OUTCOME, "exit_code", OK)

    def lead(made: SweepInMemory) -> Farm:
        configs = [member.record.config for member in made.jobs.values()]
        budget = budget_for(NoForecast(), made.engine.slots("cpu"), configs, shown=False)
        with Journal(made.folder) as journal:
            settings = Settings(share=True, max_restarts=0)
            journal.state = read_state(made.folder)
            for number, one in made.jobs.items():
                one.now = journal.state.jobs[number]
            farm = Farm(made.folder, read_sweep(made.folder), made.jobs, journal, settings, _picture)
            farm.train(made.tasks, made.folder, made.engine, budget)
        return farm

    return lead


def _picture(folder: Path, outcomes: list[JobOutcome]) -> Path | None:
    return folder / "picture.png" if any(one.state == "FINISHED" for one in outcomes) else None


def _job(seed: int) -> JobConfig:
    return job(seed=seed, tracking__enabled=False)


@pytest.mark.parametrize(
    ("seeds", "code", "states"),
    [
        ((0, 1), OK, ["FINISHED", "FINISHED"]),
        ((0, Seed.DIVERGES), FAILED, ["FINISHED", "FAILED"]),
        ((Seed.DIES,), FAILED, ["FAILED"]),
    ],
)
def test_the_exit_code_tells_and_so_do_results_and_journal(
    sweep: Sweeps, through: Through, seeds: tuple[int, ...], code: int, states: list[str]
) -> None:
    made = sweep([_job(int(seed)) for seed in seeds]).recorded()
    farm = through(made)
    assert OUTCOME.exit_code == code
    assert [result.state for result in farm.results] == states
    assert [row["state"] for row in json.loads((made.folder / "results.json").read_text())] == states
    assert [line.exit_code for line in made.journal(EndedLine)] == [code]


def test_a_stop_ends_with_130_and_the_way_to_go_on(
    sweep: Sweeps, through: Through, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sweep([_job(Seed.ENDLESS)]).recorded()
    made.when(lambda: made.jobs[0].step > 2, lambda: ask_to_stop(made.folder, None))
    through(made)
    assert OUTCOME.exit_code == INTERRUPTED
    assert "Continue: python -m src.resume" in capsys.readouterr().out


def test_lost_workers_are_retried_and_other_failures_are_not(
    sweep: Sweeps, through: Through, capsys: pytest.CaptureFixture[str]
) -> None:
    through(sweep([_job(Seed.DIES), _job(0)]).recorded())
    assert "Continue: python -m src.retry" in capsys.readouterr().out


def test_a_jobs_own_failure_is_told_without_advice_to_repeat_it(
    sweep: Sweeps, through: Through, capsys: pytest.CaptureFixture[str]
) -> None:
    through(sweep([_job(Seed.DIVERGES), _job(0)]).recorded())
    told = capsys.readouterr().out
    assert "FAILED:   job0: the loss is not finite at step 2" in told
    assert "Picture:" in told
    assert "Continue:" not in told
