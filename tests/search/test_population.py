"""A population from its first members to its last: the worst leave, forks of the best come, a kill loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lora_foundry.config.errors import SweepError
from lora_foundry.config.search import PbtOptions, SearchOptions
from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.outcome import WRONG_INPUT
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.search.mutating import Mutation
from lora_foundry.search.population import Pace, Population
from lora_foundry.search.space import Space, space_of
from tests.launch.seeds import Seed
from tests.search.searches import Searches

DROPOUT = "lora.dropout=interval(0.01,0.4)"
LONG = ("trainer.max_steps=12", "validation.every=1", "data.batch_size=1")


def space(*words: str) -> Space:
    return space_of(OverridesParser.create().parse_overrides([*words]), {})


def evolve(searches: Searches, *words: str, **options: Any) -> int:
    pbt = {"population": 4, "every": 3, **options}
    return searches.run([DROPOUT, *LONG, *words], sampler="pbt", n_trials=20, pbt=pbt)


@pytest.mark.slow
def test_the_worst_give_their_places_to_forks_of_the_best_in_the_pack_under_way(searches: Searches) -> None:
    assert evolve(searches) == 0
    jobs = read_sweep(searches.folder).jobs
    forks = [job.fork for job in jobs if job.fork is not None]
    assert len(jobs) == 4 + len(forks)
    assert len(forks) == 3, "at 3, 6 and 9 samples; at 12 it is over"
    outcomes = {one.job: one for one in searches.outcomes()}
    assert {outcomes[fork.instead_of].state for fork in forks} == {"PRUNED"}
    assert sum(one.state == "FINISHED" for one in outcomes.values()) == 4
    dropout = {job.job: float(job.overrides["lora.dropout"]) for job in jobs}
    best, worst = min(range(4), key=dropout.get), max(range(4), key=dropout.get)
    assert (forks[0].of, forks[0].instead_of) == (best, worst)
    for job in jobs[4:]:
        assert dropout[job.job] / dropout[job.fork.of] == pytest.approx(0.8, rel=1e-3) or dropout[job.job] / dropout[
            job.fork.of
        ] == pytest.approx(1.25, rel=1e-3)
        lineage = outcomes[job.job].lineage
        assert (lineage.of, lineage.name) == (job.fork.of, outcomes[job.fork.of].name)
        assert lineage.samples >= 3
    commands = [json.loads(line) for line in (searches.folder / "commands.jsonl").read_text().splitlines()]
    assert [len(one["jobs"]) for one in commands if one["cmd"] in ("pack", "join")] == [4, 1, 1, 1]
    assert len(searches.engine.started) == 1, "one worker, warm"
    assert [job.config is None for job in jobs] == [job.fork is not None for job in jobs], "no command finds a fork"


@pytest.mark.slow
def test_the_same_seed_makes_the_same_population(searches: Searches, tmp_path: Path) -> None:
    def told() -> list[object]:
        return [(job.overrides, job.fork) for job in read_sweep(searches.folder).jobs]

    assert evolve(searches) == 0
    first = told()
    searches.folder = tmp_path / "again"
    assert evolve(searches) == 0
    assert told() == first


@pytest.mark.slow
def test_one_that_fails_leaves_its_place_to_a_fork(searches: Searches) -> None:
    words = ["lora.dropout=0.1,0.2,0.3", "objective.noise_offset=0.0,0.1"]
    assert (
        searches.run(
            [*words, *LONG, f"seed={int(Seed.DIVERGES)}"], sampler="pbt", n_trials=20, pbt={"population": 3, "every": 3}
        )
        != 0
    ), "all have one seed, so that all fail"
    assert len(read_sweep(searches.folder).jobs) == 3, "nobody is left to go on from"


class _KilledError(BaseException):
    """The launcher is gone."""


@pytest.mark.slow
def test_a_population_whose_launcher_was_killed_goes_on(searches: Searches, monkeypatch: pytest.MonkeyPatch) -> None:
    tell, left = Population.tell, [25]

    def until(self: Population, *args: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _KilledError
        tell(self, *args)

    monkeypatch.setattr(Population, "tell", until)
    with pytest.raises(_KilledError):
        evolve(searches)
    before = read_sweep(searches.folder).jobs
    assert len(before) > 4, "killed after the first fork"
    monkeypatch.setattr(Population, "tell", tell)
    assert evolve(searches) == 0
    after = read_sweep(searches.folder).jobs
    assert after[: len(before)] == before
    states = [one.state for one in searches.outcomes()]
    assert states.count("FINISHED") == 4
    assert states.count("PRUNED") == len(after) - 4


@pytest.mark.slow
def test_a_fork_that_was_offered_when_the_launcher_was_killed_begins_in_its_donors_pack(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Farm, "prune", killed)
        with pytest.raises(_KilledError):
            evolve(searches)
    (fork,) = [job for job in read_sweep(searches.folder).jobs if job.fork is not None]
    assert evolve(searches) == 0
    states = {one.job: one.state for one in searches.outcomes()}
    assert states[fork.fork.instead_of] == "PRUNED"
    commands = [json.loads(line) for line in (searches.folder / "commands.jsonl").read_text().splitlines()]
    again = [one["jobs"] for one in commands if one["cmd"] == "pack"][-1]
    assert fork.job in [one["job"] for one in again], "with those that are left"
    assert len(again) == 4
    (own,) = [one for one in again if one["job"] == fork.job]
    assert own["donor"]["job"] == fork.fork.of
    assert states[fork.job] == "FINISHED" or any(
        job.fork is not None and job.fork.instead_of == fork.job for job in read_sweep(searches.folder).jobs
    )


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        (["lora.rank=4,8"], {}, "lora.rank: cannot be mutated in flight: its matrices have that shape"),
        (["lora.target_modules=attention,all"], {}, "lora.target_modules: cannot be mutated in flight"),
        (["data.batch_size=1,2"], {}, "data.batch_size: cannot be mutated in flight: its steps are counted"),
        (["optimizer=adamw,prodigy"], {}, "optimizer: cannot be mutated in flight: its state is"),
        (["lora.rank=4"], {}, "got no key to mutate"),
        ([DROPOUT], {"pbt": {"population": 1}}, "hydra.sweeper.pbt.population: got 1"),
        ([DROPOUT], {"pbt": {"populaton": 4}}, "did you mean 'population'?"),
        ([DROPOUT], {"pbt": {"quantile": 0.7}}, "hydra.sweeper.pbt.quantile: got 0.7"),
        ([DROPOUT], {"pbt": {"factors": [0]}}, "hydra.sweeper.pbt.factors: got [0]"),
        ([DROPOUT], {"pbt": {"mutate": {"optimizer.lr": "factors"}}}, "optimizer.lr is not mutated"),
        (["lora.dropout=0.1,0.2"], {"pbt": {"mutate": {"lora.dropout": "factors"}}}, "factors are for an interval"),
        ([DROPOUT], {"pbt": {"every": 1}}, "but members are judged every 768"),
        ([DROPOUT, "validation.every=null"], {}, "members are never judged on the way"),
        ([DROPOUT, "trainer.max_steps=3"], {}, "no fork could be judged"),
        ([DROPOUT], {"objective": ["val/los"]}, "hydra.sweeper.objective: got 'val/los'"),
        ([DROPOUT], {"objective": ["val/loss", "val/loss_rel"]}, "allowed is one metric of a validation"),
        ([DROPOUT], {"n_jobs": 3}, "hydra.sweeper.n_jobs: is none of sampler=pbt's"),
        (
            [DROPOUT, "hydra.launcher.pack_size=2", "hydra.launcher.slots=1"],
            {"pbt": {"population": 4}},
            "hydra.sweeper.pbt.population: got 4, but 1 slots of 2",
        ),
        (
            [DROPOUT, "hydra.launcher.pack_size=2"],
            {"pbt": {"population": 4}},
            "but 2 train at a time on 1 slot in packs",
        ),
        ([DROPOUT, "hydra.launcher.pruner=asha"], {}, "hydra.launcher.pruner: a population ends its worst"),
    ],
)
def test_what_cannot_be_is_told_before_anything_trains(
    words: list[str], options: dict[str, Any], told: str, searches: Searches, capsys: pytest.CaptureFixture[str]
) -> None:
    assert searches.run(words, **{"sampler": "pbt", "n_trials": 20, **options}) == WRONG_INPUT
    assert told in capsys.readouterr().err
    assert not searches.folder.exists()


def test_first_members_are_spread_over_the_space() -> None:
    one = space("optimizer.lr=tag(log,interval(1e-4,1e-2))", "lora.dropout=0.0,0.1")
    first = Mutation(one, PbtOptions(population=4), 0).first()
    rates = sorted(row["optimizer.lr"] for row in first)
    assert [
        sum(low <= rate < 10**0.5 * low for rate in rates) for low in (1e-4, 1e-4 * 10**0.5, 1e-3, 1e-3 * 10**0.5)
    ] == [1] * 4
    assert sorted(row["lora.dropout"] for row in first) == [0.0, 0.0, 0.1, 0.1]
    assert first != Mutation(one, PbtOptions(population=4), 1).first()


def test_a_number_is_multiplied_and_stays_inside_and_a_list_gives_another_value() -> None:
    one = space("optimizer.lr=interval(1e-3,2e-3)", "lora.dropout=0.0,0.1,0.2", "objective.noise_offset=interval(0,1)")
    options = PbtOptions(mutate={"objective.noise_offset": "resample"})
    found = [
        Mutation(one, options, 0).of({"optimizer.lr": 1e-3, "lora.dropout": 0.1, "objective.noise_offset": 0.5}, job)
        for job in range(40)
    ]
    assert {row["optimizer.lr"] for row in found} == {1e-3, 1.25e-3}
    assert {row["lora.dropout"] for row in found} == {0.0, 0.2}
    assert len({row["objective.noise_offset"] for row in found}) > 30


def test_times_are_counted_in_samples_and_the_last_is_not_worth_a_fork() -> None:
    pace = Pace(every=100, total=450)
    assert [pace.time_of(samples) for samples in (0, 99, 100, 199, 204)] == [0, 0, 1, 1, 2]
    assert [pace.is_worth(time) for time in (0, 1, 3, 4)] == [False, True, True, False]


def test_its_options_are_its_own() -> None:
    options = SearchOptions.of({"pbt": {"population": 4}, "sampler": "tpe"})
    with pytest.raises(SweepError, match=r"hydra\.sweeper\.pbt: is a search's"):
        options.check_grid()
    with pytest.raises(SweepError, match=r"hydra\.sweeper\.pbt: is a population's; write hydra/sweeper=pbt"):
        options.check()
