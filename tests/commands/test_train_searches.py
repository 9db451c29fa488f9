"""A search from the command line: typed, killed, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tests.commands.ran import FAKE_WORKER, Command
from tests.launch.seeds import Seed
from tests.root import PROJECT_ROOT

pytestmark = pytest.mark.slow


def _trials(folder: Path) -> list[FrozenTrial]:
    kept = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    (summary,) = optuna.get_all_study_summaries(kept)
    return optuna.load_study(study_name=summary.study_name, storage=kept).trials


def test_a_search_is_typed_in_hydras_own_words(command: Command) -> None:
    ran = command(
        *("-m", "hydra/sweeper=optuna", "lora.rank=choice(2,4,8)", "optimizer.lr=tag(log,interval(1e-5,1e-2))"),
        *("hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2"),
    )
    assert ran.code == 0, ran.err
    trials = _trials(ran.sweep_dir)
    assert [one.state for one in trials] == [TrialState.COMPLETE] * 5
    names = {row["name"] for row in ran.results().values()}
    assert all("-lr" in name for name in names), "what is searched is in the names from the first on"
    assert (ran.sweep_dir / "multirun.yaml").exists()
    rates = [json.loads(f"{one.params['optimizer.lr']}") for one in trials]
    assert [f"{rate:g}" for rate in rates] == [row["overrides"]["optimizer.lr"] for row in ran.results().values()]


def test_a_grid_ends_losers_early(command: Command) -> None:
    short = ("trainer.max_steps=30", "validation.every=2", "data.batch_size=1")
    ran = command("lora.rank=2,4,8,16,32,64", *short, "-m", "hydra.launcher.pruner=median")
    assert ran.code == 0, ran.err
    states = {row["rank"]: row["state"] for row in ran.results().values()}
    assert states[2] == states[4] == "FINISHED"
    assert states[64] == states[32] == "PRUNED"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hydra.launcher.pruner=asah"], "hydra.launcher.pruner: got 'asah', allowed is one of"),
        (["hydra.launcher.pruner=patience"], "hydra.launcher.prune_patience: pruner=patience needs it"),
        (["hydra.sweeper.n_trials=3"], "hydra.sweeper.n_trials: is a search's; write hydra/sweeper=optuna"),
        (["hydra/sweeper=optnua"], "hydra/sweeper: got optnua, allowed is tolerant, optuna or pbt"),
        (["hydra/sweeper=optuna", "hydra.sweeper.n_trails=3"], "did you mean 'hydra.sweeper.n_trials'?"),
        (["hydra/sweeper=optuna", "optimizer.lr=interval(a,b)"], "optimizer.lr=interval(a,b)"),
    ],
)
def test_what_is_wrong_with_a_search_or_a_pruner_is_one_line(command: Command, words: list[str], told: str) -> None:
    ran = command("lora.rank=2,4", "-m", *words)
    assert ran.code == 2
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_a_killed_search_goes_on_with_its_resume(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    words = [
        *("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler=grid", f"seed=1,{int(Seed.ENDLESS)},2,3,4"),
        *("hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2", "tracking=none", FAKE_WORKER),
        f"hydra.sweep.dir={folder}",
    ]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "src.train", *words], cwd=PROJECT_ROOT, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (folder / "study.journal").exists() or sum(one.state.is_finished() for one in _trials(folder)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    told = [one for one in _trials(folder) if one.state.is_finished()]
    (folder / "let-end").touch()
    resumed = subprocess.run(
        [sys.executable, "-m", "src.resume", str(folder)], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    trials = [one for one in _trials(folder) if one.user_attrs]  # a kill in the middle of asking leaves one without
    assert [one.params["seed"] for one in trials] == [1, int(Seed.ENDLESS), 2, 3, 4]
    assert all(one.state == TrialState.COMPLETE for one in trials)
    assert [one for one in trials if one.number in {early.number for early in told}] == told
