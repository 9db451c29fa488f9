"""A study in PostgreSQL, which several machines can reach: a real server, that goes and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from lora_foundry.search.search import Search
from lora_foundry.wire.outcomes import JobOutcome
from tests.phrases import CANNOT_BE_OPENED
from tests.search.postgres import Postgres
from tests.search.searches import Searches

pytestmark = pytest.mark.slow
_RANKS = "lora.rank=2,4,8,16,32,64"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as made:
        yield made


def test_a_study_lies_in_a_database_and_another_sweep_goes_on_with_it(
    searches: Searches, server: Postgres, tmp_path: Path
) -> None:
    assert searches.run([_RANKS], storage=server.address, study="ranks", n_trials=4) == 0
    assert [one.state for one in searches.trials(server.address, "ranks")] == [TrialState.COMPLETE] * 4
    assert not (searches.folder / "study.journal").exists()
    searches.folder = tmp_path / "elsewhere"
    assert searches.run([_RANKS], storage=server.address, study="ranks", n_trials=4) == 0
    trials = searches.trials(server.address, "ranks")
    assert sorted(one.params["lora.rank"] for one in trials) == [2, 4, 8, 16, 32, 64]
    assert len(searches.outcomes()) == 2, "what the other sweep tried is not tried again"


def test_while_the_server_is_away_jobs_train_on_and_all_is_told_when_it_is_back(
    searches: Searches, server: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, count = Search.ended, [0]

    def with_a_gap(self: Search, outcome: JobOutcome) -> None:
        count[0] += 1
        if count[0] == 1:
            server.stop()
        ended(self, outcome)
        if count[0] == 2:
            server.start()

    monkeypatch.setattr(Search, "ended", with_a_gap)
    monkeypatch.setattr(Search.__init__, "__kwdefaults__", {"now": searches.clock.monotonic})
    words = [_RANKS, "trainer.max_steps=6,20"]
    assert searches.run(words, storage=server.address, study="away", sampler="grid", n_trials=6, n_jobs=2) == 0
    assert [one.state for one in searches.trials(server.address, "away")] == [TrialState.COMPLETE] * 6
    told = capsys.readouterr().out.replace("\n", " ")
    assert "the study's storage is away" in told
    assert "the study's storage is back" in told


def test_an_address_that_nobody_answers_is_told_without_its_password(
    searches: Searches, server: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.address.replace("postgres@", "postgres:secret@").replace("/postgres", "/nothing-there")
    assert searches.run([_RANKS], storage=address) == 2
    told = capsys.readouterr().err
    assert CANNOT_BE_OPENED in told
    assert "secret" not in told
