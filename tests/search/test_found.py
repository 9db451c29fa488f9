"""What is read from a study when its search has ended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from lora_foundry.config.errors import SweepError
from lora_foundry.search.found import FEWEST_TRIALS, found_of, what_decides
from lora_foundry.search.study import FILE, JOB, SWEEP
from tests.phrases import CANNOT_BE_OPENED

SPACE = {"optimizer.lr": FloatDistribution(0, 1), "lora.dropout": FloatDistribution(0, 1)}


def a_study(
    folder: Path,
    trials: Sequence[tuple[Mapping[str, float], Sequence[float]]],
    *,
    objectives: int = 1,
    storage: str | None = None,
    name: str = "s",
) -> optuna.Study:
    """One with trials of the sweep ``s``, whose trial n is job n + 10."""
    place = storage or JournalStorage(JournalFileBackend(str(folder / FILE)))
    study = optuna.create_study(storage=place, study_name=name, directions=["minimize"] * objectives)
    names = ["val/loss_rel", "adapter/bytes"][:objectives]
    study.set_metric_names(names)
    for number, (params, values) in enumerate(trials):
        known = {key: SPACE[key] for key in params}
        mark = {JOB: number + 10, SWEEP: "s"}
        study.add_trial(create_trial(params=dict(params), distributions=known, values=list(values), user_attrs=mark))
    return study


def _points(count: int) -> list[tuple[dict[str, float], tuple[float]]]:
    """The loss is the rate's alone; dropout runs through its range again and again."""
    return [
        ({"optimizer.lr": n / count, "lora.dropout": n * 7 % count / count}, ((n / count - 0.3) ** 2,))
        for n in range(count)
    ]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_decides_is_told_by_its_share(tmp_path: Path) -> None:
    a_study(tmp_path, _points(40))
    found = found_of(tmp_path, "s", {})
    assert found is not None
    assert list(found.importance) == ["optimizer.lr", "lora.dropout"]
    assert found.importance["optimizer.lr"] > 0.6
    assert sum(found.importance.values()) == pytest.approx(1.0)
    assert found.objectives == ("val/loss_rel",)
    assert found.told[10] == pytest.approx((0.09,))
    assert found.front == (22,)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_nothing_is_said_to_decide_after_few_trials(tmp_path: Path) -> None:
    a_study(tmp_path, _points(FEWEST_TRIALS - 1))
    found = found_of(tmp_path, "s", {})
    assert found is not None
    assert found.importance == {}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_front_of_two_objectives_has_who_is_not_beaten_in_both(tmp_path: Path) -> None:
    values = [(0.5, 3.0), (0.6, 2.0), (0.6, 4.0), (0.9, 1.0)]
    a_study(tmp_path, [({"optimizer.lr": n / 10}, both) for n, both in enumerate(values)], objectives=2)
    found = found_of(tmp_path, "s", {})
    assert found is not None
    assert found.front == (10, 11, 13)
    assert found.told == dict(zip((10, 11, 12, 13), values, strict=True))
    assert found.objectives == ("val/loss_rel", "adapter/bytes")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_was_pruned_is_not_told(tmp_path: Path) -> None:
    a_study(tmp_path, _points(2))
    storage = JournalStorage(JournalFileBackend(str(tmp_path / FILE)))
    study = optuna.load_study(study_name="s", storage=storage)
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.1, user_attrs={JOB: 12, SWEEP: "s"}))
    found = found_of(tmp_path, "s", {})
    assert found is not None
    assert list(found.told) == [10, 11]


def test_a_folder_without_a_study_has_nothing_and_none_is_made(tmp_path: Path) -> None:
    assert found_of(tmp_path, "s", {}) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_decides_is_a_line_and_none_after_few_trials(tmp_path: Path) -> None:
    many, few = tmp_path / "many", tmp_path / "few"
    many.mkdir()
    few.mkdir()
    line = what_decides(a_study(many, _points(40)))
    assert line is not None
    shares = re.findall(r"(lr|dropout) (\d+) %", line.removeprefix("What decides, by PED-ANOVA: "))
    assert shares[0][0] == "lr"
    assert sum(int(share) for _, share in shares) == pytest.approx(100, abs=1)
    assert what_decides(a_study(few, _points(FEWEST_TRIALS - 1))) is None


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("study", [None, "shared"])
def test_a_study_in_a_database_is_found_by_what_the_search_began_with(study: str | None, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/studies.db"
    a_study(tmp_path, _points(24), storage=place, name=study or "s")
    found = found_of(tmp_path, "s", {"storage": place, "study": study})
    assert found is not None
    assert len(found.told) == 24
    assert list(found.importance) == ["optimizer.lr", "lora.dropout"]
    assert found_of(tmp_path, "s", {"storage": place, "study": "another"}) is None


def test_a_database_that_is_away_is_said(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=CANNOT_BE_OPENED):
        found_of(tmp_path, "s", {"storage": f"sqlite:///{tmp_path}/nowhere/studies.db", "study": None})
