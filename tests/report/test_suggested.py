"""What a report adds of a search, what it suggests to try next, and how it follows a sweep that runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

from lora_foundry.commands import report
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.records.search import write_search
from lora_foundry.wiring.told import told_of
from tests.phrases import CANNOT_BE_OPENED
from tests.report.sweeps import Folder
from tests.search.test_found import a_study


def _ranks(path: Path, losses: Sequence[float]) -> Folder:
    """Ranks 2, 4, 8, ... with a loss each."""
    made = Folder(
        path,
        [
            {"data.name": "my photos", "tracking.root": "old", "lora.rank": str(2 ** (n + 1))}
            for n in range(len(losses))
        ],
    )
    for job, loss in enumerate(losses):
        made.ended(job, [loss, loss + 0.01])
    return made


def test_the_next_value_is_named_where_the_best_lies_at_an_edge_that_losses_fall_towards(tmp_path: Path) -> None:
    (hint,) = told_of(_ranks(tmp_path / "up", [0.9, 0.8, 0.7]).path).hints
    assert hint.about == "the best has the largest lora.rank that was tried, 8, and the mean loss falls up to it"
    assert hint.line.endswith("train -m 'data.name=my photos' lora.rank=8,16")
    (hint,) = told_of(_ranks(tmp_path / "down", [0.6, 0.8, 0.9]).path).hints
    assert "smallest lora.rank that was tried, 2," in hint.about
    assert hint.line.endswith("lora.rank=2,1")


@pytest.mark.parametrize(
    "losses",
    [[0.8, 0.7], [0.9, 0.6, 0.7], [0.8, 0.9, 0.7], [0.9, 0.8, 0.7, 0.75]],
    ids=["two values", "inside", "no trend", "past its lowest"],
)
def test_nothing_is_guessed_otherwise(losses: Sequence[float], tmp_path: Path) -> None:
    assert told_of(_ranks(tmp_path / "sweep", losses).path).hints == ()


def test_a_value_beyond_that_failed_is_no_edge(tmp_path: Path) -> None:
    points = [{"optimizer.lr": lr} for lr in ("0.001", "0.002", "0.004", "0.9")]
    made = Folder(tmp_path / "sweep", points)
    for job, loss in enumerate((0.9, 0.8, 0.7)):
        made.ended(job, [loss, loss])
    made.ended(3, state="FAILED", error="the loss is nan")
    assert told_of(made.path).hints == ()


def test_means_are_of_the_same_points_alone(tmp_path: Path) -> None:
    """Rank 8 looks best where only its good rate finished; over the rate that all have it does not."""
    points = [{"lora.rank": rank, "optimizer.lr": lr} for rank in "248" for lr in ("0.001", "0.004")]
    for losses, count in (((0.9, 0.7, 0.92, 0.6, None, 0.5), 1), ((0.6, 0.9, 0.6, 0.8, 0.59, None), 0)):
        made = Folder(tmp_path / str(count), points)
        for job, loss in enumerate(losses):
            made.ended(job, [loss, loss] if loss else (), state="FINISHED" if loss else "PRUNED")
        assert len(told_of(made.path).hints) == count


def test_a_search_that_tries_more_where_it_is_good_suggests_no_edge(tmp_path: Path) -> None:
    made = _ranks(tmp_path / "sweep", [0.9, 0.8, 0.7])
    write_search(made.path, ["-m", "hydra/sweeper=optuna"])
    assert told_of(made.path).hints == ()


def test_texts_zero_and_seeds_have_no_edge(tmp_path: Path) -> None:
    for key, values in (
        ("optimizer", ("adamw", "prodigy", "came")),
        ("validation.seed", ("0", "1", "2")),
        ("seed", ("1", "2", "3")),
    ):
        made = Folder(tmp_path / key, [{key: value} for value in values])
        for job in range(3):
            made.ended(job, [0.9 - 0.1 * job] * 2)
        assert told_of(made.path).hints == ()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_has_its_front_and_its_values(tmp_path: Path) -> None:
    made = _ranks(tmp_path / "sweep", [0.9, 0.8, 0.7])
    write_search(made.path, ["-m", "hydra/sweeper=optuna"])
    name = read_sweep(made.path).id
    storage = JournalStorage(JournalFileBackend(str(made.path / "study.journal")))
    study = optuna.create_study(storage=storage, study_name=name, directions=["minimize", "minimize"])
    study.set_metric_names(["val/loss_rel", "adapter/bytes"])
    for job, values in enumerate([(0.9, 1.0), (0.8, 3.0), (0.7, 3.0)]):
        known = {"lora.rank": IntDistribution(2, 8)}
        mark = {"job": job, "sweep": name}
        study.add_trial(
            create_trial(params={"lora.rank": 2 + job}, distributions=known, values=list(values), user_attrs=mark)
        )
    assert report.main([str(made.path)]) == 0
    text = (made.path / "report.html").read_text()
    assert '"front":[0,2]' in text
    assert 'data-chart="front"' in text
    assert "Search of rank" in text
    assert "What decides cannot be told from 3 complete trials" in text
    assert 'data-chart="importance"' not in text


def test_a_watched_report_follows_the_sweep_and_stops_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _ranks(tmp_path / "sweep", [0.9, 0.8])
    page, seen = made.path / "report.html", []
    held = Journal(made.path)

    def wait(seconds: float) -> None:
        seen.append((seconds, f'"every":{seconds}' in page.read_text(), ">running<" in page.read_text()))
        if len(seen) == 2:
            held.close()

    monkeypatch.setattr(report, "time", SimpleNamespace(sleep=wait))
    assert report.main([str(made.path), "--watch"]) == 0
    assert seen == [(5.0, True, True)] * 2
    assert '"every":null' in page.read_text()
    assert ">running<" not in page.read_text()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_whose_study_lies_in_a_database_is_told_of_and_one_that_is_away_is_said(tmp_path: Path) -> None:
    made = _ranks(tmp_path / "sweep", [0.9, 0.8])
    write_search(made.path, ["-m", "hydra/sweeper=optuna"])
    sweeper = made.path / "1" / ".hydra" / "hydra.yaml"
    sweeper.parent.mkdir(parents=True)
    (tmp_path / "there").mkdir()
    place = f"sqlite:///{tmp_path}/there/studies.db"
    sweeper.write_text(f"hydra: {{sweeper: {{_target_: x, storage: '{place}', study: mine}}}}\n")
    a_study(tmp_path, [({"optimizer.lr": n / 24}, (n / 24,)) for n in range(24)], storage=place, name="mine")
    found = told_of(made.path).searched
    assert found is not None
    assert (found.trouble, dict(found.importance)) == (None, {"optimizer.lr": 1.0})
    (tmp_path / "there").rename(tmp_path / "away")
    gone = told_of(made.path).searched
    assert gone is not None
    assert CANNOT_BE_OPENED in str(gone.trouble)
    assert report.main([str(made.path)]) == 0
    assert CANNOT_BE_OPENED in (made.path / "report.html").read_text()
