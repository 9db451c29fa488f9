"""A search from its first trial to its last: places are filled, losers leave, and a kill loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
from optuna.trial import Trial, TrialState

from lora_foundry.launch.farm.farm import Farm
from lora_foundry.launch.farm.launching import Launching
from lora_foundry.launch.farm.outcome import FAILED, WRONG_INPUT
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.search import sweeping
from lora_foundry.search.found import FEWEST_TRIALS, found_of
from lora_foundry.search.search import Search, _known, _Open
from lora_foundry.search.space import Space
from lora_foundry.search.study import SWEEP
from lora_foundry.wire.outcomes import JobOutcome
from lora_foundry.wire.summary import Summary
from tests.launch.seeds import Seed
from tests.phrases import CANNOT_BE_OPENED
from tests.search.searches import Searches

pytestmark = pytest.mark.slow
_RANKS = "lora.rank=2,4,8,16,32,64"


def _commands(searches: Searches) -> list[dict]:
    lines = (searches.folder / "commands.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_trials_are_told_what_their_jobs_came_to(searches: Searches) -> None:
    assert searches.run([_RANKS], n_trials=4) == 0
    trials, outcomes = searches.trials(), searches.outcomes()
    assert [one.state for one in trials] == [TrialState.COMPLETE] * 4
    assert [outcome.rank for outcome in outcomes] == [one.params["lora.rank"] for one in trials]
    assert [one.value for one in trials] == pytest.approx([0.8 + outcome.rank / 100 for outcome in outcomes])
    assert [one.user_attrs["job"] for one in trials] == [0, 1, 2, 3]
    assert all(outcome.name == f"duotone-rank{outcome.rank}" for outcome in outcomes), "named as in a grid"


def test_a_place_is_filled_at_once_and_no_trial_waits_for_another(searches: Searches) -> None:
    assert searches.run([_RANKS, "trainer.max_steps=6,12"], sampler="grid", n_trials=8, n_jobs=2) == 0
    commands = _commands(searches)
    assert next(len(one["jobs"]) for one in commands if one["cmd"] == "pack") == 2
    assert sum(one["cmd"] == "join" for one in commands) >= 2, "into the pack under way"
    assert len(searches.engine.started) == 1, "one worker, warm"
    assert len(searches.outcomes()) == 8


def test_losers_leave_early_and_keep_their_state_everywhere(searches: Searches) -> None:
    words = [_RANKS, "trainer.max_steps=30", "validation.every=2", "data.batch_size=1", "hydra.launcher.pruner=asha"]
    assert searches.run(words, sampler="grid", n_trials=6) == 0
    trials = searches.trials()
    states = {one.params["lora.rank"]: one.state for one in trials}
    assert states[2] == TrialState.COMPLETE, "the best is never pruned"
    assert TrialState.PRUNED in states.values()
    pruned = [one for one in trials if one.state == TrialState.PRUNED]
    assert {outcome.rank for outcome in searches.outcomes() if outcome.state == "PRUNED"} == {
        one.params["lora.rank"] for one in pruned
    }
    assert all(one.intermediate_values for one in pruned)


def test_what_decides_is_said_at_the_end_and_told_of_the_database_that_the_study_lies_in(
    searches: Searches, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"sqlite:///{tmp_path}/studies.db"
    words = ["lora.rank=range(1,40)", "seed=range(100,140)"]
    assert searches.run(words, sampler="random", n_trials=FEWEST_TRIALS + 4, storage=place) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("What decides")]
    found = found_of(searches.folder, read_sweep(searches.folder).id, {"storage": place, "study": None})
    assert found is not None
    assert next(iter(found.importance)) == "lora.rank", "of which alone these workers' losses are"
    assert f"rank {100 * found.importance['lora.rank']:.0f} %" in line
    assert len(found.told) == FEWEST_TRIALS + 4


def test_a_space_with_few_points_ends_when_all_were_tried(searches: Searches) -> None:
    assert searches.run(["lora.rank=2,4,8"], n_trials=20) == 0
    assert sorted(one.params["lora.rank"] for one in searches.trials()) == [2, 4, 8]


def test_what_was_tried_is_gone_through_once_a_trial_and_not_at_every_look(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, counted = [0], [0]
    look, id_of = Search.look, Space.id_of
    monkeypatch.setattr(Search, "look", lambda self: (looks.__setitem__(0, looks[0] + 1), look(self))[1])
    monkeypatch.setattr(
        Space, "id_of", lambda self, values: (counted.__setitem__(0, counted[0] + 1), id_of(self, values))[1]
    )
    assert searches.run(["lora.rank=2,4,8,16", "trainer.max_steps=40"], n_trials=4, n_jobs=2, sampler="grid") == 0
    assert looks[0] > 20
    assert counted[0] < 60, "four trials, asked for and counted"


def test_a_failed_trial_is_marked_and_the_others_go_on(searches: Searches) -> None:
    code = searches.run([f"seed={int(Seed.DIVERGES)},1,2"], n_trials=3)
    assert code == FAILED
    assert {one.params["seed"]: one.state for one in searches.trials()} == {
        int(Seed.DIVERGES): TrialState.FAIL,
        1: TrialState.COMPLETE,
        2: TrialState.COMPLETE,
    }


def test_starting_points_come_first(searches: Searches) -> None:
    assert searches.run([_RANKS], n_trials=3, enqueue=[{"lora.rank": 64}, {"lora.rank": 2}]) == 0
    assert [one.params["lora.rank"] for one in searches.trials()][:2] == [64, 2]


def test_samples_are_a_budget(searches: Searches) -> None:
    words = [_RANKS, "trainer.max_steps=10", "data.batch_size=1"]
    assert searches.run(words, n_trials=None, samples=35, n_jobs=1) == 0
    assert len(searches.trials()) == 3, "a fourth would come to 40"


def test_an_objective_may_be_any_metric_and_there_may_be_several(searches: Searches) -> None:
    assert searches.run([_RANKS], n_trials=6, objective=["val/loss_rel", "adapter/bytes"]) == 0
    assert all(
        one.values == pytest.approx([0.8 + one.params["lora.rank"] / 100, 1024 * one.params["lora.rank"]])
        for one in searches.trials()
    )


def test_with_one_slot_and_a_seed_the_order_is_the_same_again(searches: Searches, tmp_path: Path) -> None:
    words = ["lora.rank=interval(1,64)", "optimizer.lr=tag(log,interval(1e-5,1e-2))"]
    searches.run(words, n_trials=14, n_jobs=2, seed=3)
    first = [one.params for one in searches.trials()]
    searches.folder = tmp_path / "again"
    searches.run(words, n_trials=14, n_jobs=2, seed=3)
    assert [one.params for one in searches.trials()] == first


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_a_search_whose_launcher_was_killed_goes_on_with_what_was_told(
    searches: Searches, pruner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [_RANKS, "trainer.max_steps=6,20", "validation.every=2", "data.batch_size=1"]
    words.append(f"hydra.launcher.pruner={pruner}")
    ended = Search.ended
    monkeypatch.setattr(Search, "ended", _until(ended, 3))
    with pytest.raises(_KilledError):
        searches.run(words, n_trials=9, n_jobs=3)
    before = {one.number: one for one in searches.trials()}
    assert any(one.state == TrialState.RUNNING for one in before.values())
    monkeypatch.setattr(Search, "ended", ended)
    assert searches.run(words, n_trials=9, n_jobs=3) == 0
    after = {one.number: one for one in searches.trials()}
    assert len(after) == 9, "those that were asked for count"
    assert all(one.state.is_finished() for one in after.values())
    for number, one in before.items():
        assert after[number].params == one.params
        if one.state.is_finished():
            assert after[number] == one
    assert len({job.job for job in searches.outcomes()}) == 9
    assert len({outcome.name for outcome in searches.outcomes()}) == 9


class _KilledError(BaseException):
    """The launcher is gone."""


def _until(ended: object, count: int) -> object:
    """``Search.ended`` that kills the launcher at the end of so many jobs."""
    left = [count]

    def method(self: Search, outcome: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _KilledError
        ended(self, outcome)  # type: ignore[operator]

    return method


def test_a_trial_that_was_asked_for_and_never_offered_is_trained_by_the_resume(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = Farm.offer

    def killed(self: Farm, points: list, notes: tuple[str, ...] = ()) -> list[int]:
        if self.jobs:
            raise _KilledError
        return offer(self, points, notes)

    monkeypatch.setattr(Farm, "offer", killed)
    with pytest.raises(_KilledError):
        searches.run([_RANKS], n_trials=4, n_jobs=2)
    asked = [one.params for one in searches.trials()]
    monkeypatch.setattr(Farm, "offer", offer)
    assert searches.run([_RANKS], n_trials=4, n_jobs=2) == 0
    trials = searches.trials()
    assert [one.params for one in trials][: len(asked)] == asked
    assert len(trials) == 4
    assert all(one.state == TrialState.COMPLETE for one in trials)


def test_a_trial_that_nobody_knows_of_since_a_kill_struck_while_it_was_asked_for_is_marked(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, count = Trial.set_user_attr, [0]

    def killed(self: Trial, key: str, value: object) -> None:
        count[0] += key == SWEEP
        if count[0] == 2:
            raise _KilledError
        told(self, key, value)

    monkeypatch.setattr(Trial, "set_user_attr", killed)
    with pytest.raises(_KilledError):
        searches.run([_RANKS], n_trials=3, n_jobs=1)
    monkeypatch.setattr(Trial, "set_user_attr", told)
    assert searches.run([_RANKS], n_trials=3, n_jobs=1) == 0
    states = [one.state for one in searches.trials()]
    assert states.count(TrialState.COMPLETE) == 3
    assert states.count(TrialState.FAIL) == len(states) - 3 == 1


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        (["lora.rnak=2,4"], {}, "lora.rnak"),
        (["optimizer.lr=interval(1e-2,1e-3)"], {}, "got an interval from 0.01 to 0.001"),
        (["optimizer.lr=tag(log,interval(0,1))"], {}, "got a logarithm from 0"),
        (["lora.target_modules=interval(0,1)"], {}, "takes none"),
        ([_RANKS], {"objective": "val/los"}, "got 'val/los', which no job logs; did you mean 'val/loss'?"),
        ([_RANKS], {"sampler": "tep"}, "hydra.sweeper.sampler: got 'tep'"),
        ([_RANKS], {"n_trials": None}, "so that the search had no end"),
        ([_RANKS], {"n_trials": "many"}, "n_trials: got 'many', allowed is a whole number"),
        ([_RANKS], {"hours": 1e-7}, "but one trial takes about"),
        ([_RANKS], {"samples": 10}, "but one trial sees"),
        ([_RANKS], {"enqueue": [{"lora.rank": 3}]}, "enqueue[0]: lora.rank: got 3"),
        ([_RANKS], {"objective": ["val/loss", "adapter/norm"], "sampler": "cmaes"}, "takes one objective"),
        ([_RANKS], {"direction": ["minimize", "maximize"]}, "got 2 for 1 objectives"),
        ([_RANKS], {"storage": "sqlite:////no/such/folder/x.db"}, CANNOT_BE_OPENED),
        ([_RANKS], {"warm_start": "no-such-sweep"}, "hydra.sweeper.warm_start: no-such-sweep"),
        (["lora.rank=0,4"], {}, "lora.rank: got 0"),
    ],
)
def test_bad_input_is_told_before_anything_trains(
    searches: Searches, words: list[str], options: Mapping[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert searches.run(words, **options) == WRONG_INPUT
    assert told in capsys.readouterr().err
    assert not (searches.folder / "sweep.json").exists()
    assert not searches.engine.started


def test_a_study_of_another_space_is_not_mixed_with_this_one(
    searches: Searches, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"
    assert searches.run(["lora.rank=2,4"], storage=storage, study="mine", n_trials=2) == 0
    searches.folder = tmp_path / "second"
    assert searches.run(["lora.rank=2,8"], storage=storage, study="mine") == WRONG_INPUT
    assert "lora.rank: it has [2, 4], this one [2, 8]" in capsys.readouterr().err
    searches.folder = tmp_path / "third"
    assert searches.run(["lora.rank=2,4"], storage=storage, study="mine") == 0, "nothing is left to try"
    assert len(searches.trials(storage)) == 2


def test_what_another_sweep_finished_is_learned_and_not_trained_again(searches: Searches, tmp_path: Path) -> None:
    assert searches.run(["lora.rank=2,4"], n_trials=2) == 0
    first, searches.folder = searches.folder, tmp_path / "second"
    assert searches.run(["lora.rank=2,4,8"], n_trials=5, warm_start=str(first)) == 0
    trials = searches.trials()
    assert sorted(one.params["lora.rank"] for one in trials) == [2, 4, 8]
    assert [outcome.rank for outcome in searches.outcomes()] == [8]


def test_while_the_database_is_away_jobs_train_on_and_nothing_is_lost(
    searches: Searches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"
    opened, gone = sweeping.opened, {"until": 0.0}

    @contextmanager
    def with_a_gap(*parts: object) -> Iterator[object]:
        with opened(*parts) as study:  # type: ignore[arg-type]
            study.tell = _away(study.tell)
            yield study

    def _away(own: Callable[..., object]) -> Callable[..., object]:

        def away(*args: object, **kwargs: object) -> object:
            if not gone["until"]:
                gone["until"] = searches.clock.now + 5.0
            if searches.clock.now < gone["until"]:
                msg = "the server closed the connection"
                raise OSError(msg)
            return own(*args, **kwargs)  # type: ignore[arg-type]

        return away

    monkeypatch.setattr(sweeping, "opened", with_a_gap)
    monkeypatch.setattr("lora_foundry.search.patience.time.monotonic", searches.clock.monotonic)
    monkeypatch.setattr(Search.__init__, "__kwdefaults__", {"now": searches.clock.monotonic})
    assert searches.run([_RANKS], storage=storage, n_trials=6, n_jobs=2) == 0
    trials = searches.trials(storage)
    assert [one.state for one in trials] == [TrialState.COMPLETE] * 6


def test_a_plan_shows_trials_and_makes_nothing(searches: Searches, capsys: pytest.CaptureFixture[str]) -> None:
    assert searches.run(["lora.rank=2,4", "hydra.launcher.plan_only=true"]) == 0
    assert "duotone-rank2" in capsys.readouterr().out
    assert not searches.folder.exists()


def test_refused_trials_count_and_the_search_goes_on(
    searches: Searches, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    point, composed = Launching.point, []

    def refusing(self: Launching, words: list[str], index: int) -> object:
        composed.append(words)
        if len(composed) > 6 and "lora.rank=8" in words:  # the first are the probes
            return point(self, [*words, "lora.rank=0"], index)
        return point(self, words, index)

    monkeypatch.setattr(Launching, "point", refusing)
    assert searches.run([_RANKS], sampler="grid", n_trials=6) == 0
    assert [one.state for one in searches.trials()].count(TrialState.FAIL) == 1
    assert len(searches.outcomes()) == 5
    assert "cannot be: lora.rank: got 0" in capsys.readouterr().out.replace("\n", " ")


def test_a_bound_on_another_metric_leaves_the_best_that_keeps_to_it(
    searches: Searches, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = "adapter/size_mib>=0.005"  # of 1,024 bytes a rank: ranks from 8 on
    assert searches.run([_RANKS], sampler="grid", n_trials=6, constraints=[bound]) == 0
    trials = searches.trials()
    assert [one.constraints for one in trials] == [
        {bound: pytest.approx(0.005 - one.params["lora.rank"] / 1024)} for one in trials
    ]
    assert f"Within {bound}: lora.rank=8 (0.88)" in capsys.readouterr().out


def test_where_no_trial_keeps_to_a_bound_that_is_said(searches: Searches, capsys: pytest.CaptureFixture[str]) -> None:
    assert searches.run([_RANKS], n_trials=2, constraints="adapter/bytes<=1") == 0
    assert "No trial that finished keeps to adapter/bytes<=1." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"constraints": ["val/loss=1"]}, "hydra.sweeper.constraints: got 'val/loss=1', allowed is a metric, <= or >="),
        ({"constraints": ["val/drift<=0.05"]}, "hydra.sweeper.constraints: val/drift is measured where"),
        ({"constraints": ["val/los<=1"]}, "did you mean 'val/loss'?"),
        ({"constraints": ["val/loss<=1"], "warm_start": "x"}, "hydra.sweeper.warm_start: of its jobs nobody knows"),
    ],
)
def test_a_bound_that_cannot_be_minded_is_refused_before_anything_is_made(
    searches: Searches, capsys: pytest.CaptureFixture[str], options: dict, said: str
) -> None:
    assert searches.run([_RANKS], **options) == WRONG_INPUT
    assert said in capsys.readouterr().err
    assert not searches.folder.exists()


def test_drift_is_that_of_the_adapter_that_is_compared() -> None:
    told = {"val_loss_rel": 0.9, "best_val_loss_rel": 0.8, "val_drift": 0.3, "best_val_drift": 0.1}
    summary = Summary(**dict.fromkeys((one.name for one in fields(Summary)), None) | told | {"more": {}})
    outcome = JobOutcome(
        job=0, name="a", dir=Path("0"), state="FINISHED", overrides={}, rank=4, summary=summary, error=None
    )
    open_ = _Open(trial=None, samples=1, last={"val/drift": 0.3})  # type: ignore[arg-type]
    known = _known(open_, outcome)
    assert (known["val/drift"], known["val/loss_rel"]) == (0.1, 0.8)
