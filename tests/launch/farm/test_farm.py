"""From the first worker to the table at the end: exit codes, results, and what the user is told to do next."""

from __future__ import annotations

import json

import pytest

from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.farm.outcome import FAILED, INTERRUPTED, OK, OUTCOME
from lora_foundry.wire.control import ask_to_stop
from lora_foundry.wire.journal import EndedLine
from tests.launch.farm.farm_in_memory import FarmInMemory, Farms
from tests.launch.jobs import job
from tests.launch.seeds import Seed


def _job(seed: int) -> JobConfig:
    return job(seed=int(seed), tracking__enabled=False)


@pytest.mark.parametrize(
    ("seeds", "code", "states"),
    [
        ((0, 1), OK, ["FINISHED", "FINISHED"]),
        ((0, Seed.DIVERGES), FAILED, ["FINISHED", "FAILED"]),
        ((Seed.DIES,), FAILED, ["FAILED"]),
    ],
)
def test_the_exit_code_tells_and_so_do_results_and_journal(
    farm: Farms, seeds: tuple[int, ...], code: int, states: list[str]
) -> None:
    made = farm(max_restarts=0)
    _train(made, *seeds)
    assert OUTCOME.exit_code == code
    assert [result.state for result in made.farm.results] == states
    assert [row["state"] for row in json.loads((made.folder / "results.json").read_text())] == states
    assert [line.exit_code for line in made.journal(EndedLine)] == [code]


def test_a_stop_ends_with_130_and_the_way_to_go_on(farm: Farms, capsys: pytest.CaptureFixture[str]) -> None:
    made = farm()
    made.when(lambda: len(made.told.get(0, ())) > 2, lambda: ask_to_stop(made.folder, None))
    _train(made, Seed.ENDLESS)
    assert OUTCOME.exit_code == INTERRUPTED
    assert "Continue: python -m src.resume" in capsys.readouterr().out


def test_lost_workers_are_retried_and_other_failures_are_not(farm: Farms, capsys: pytest.CaptureFixture[str]) -> None:
    _train(farm(max_restarts=0), Seed.DIES, 0)
    assert "Continue: python -m src.retry" in capsys.readouterr().out


def test_a_jobs_own_failure_is_told_without_advice_to_repeat_it(
    farm: Farms, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(farm(), Seed.DIVERGES, 0)
    told = capsys.readouterr().out
    assert "FAILED:   duotone-rank8-seed" in told
    assert "the loss is not finite at step 2" in told
    assert "Picture:" in told
    assert "Continue:" not in told


def _train(made: FarmInMemory, *seeds: int) -> None:
    made.offer(*(_job(seed) for seed in seeds))
    made.farm.close()
    made.farm.train()
