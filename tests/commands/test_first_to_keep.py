"""The way to the one to keep, typed as the README has it in a copy of the tree: rate, searches, report, MLflow's store.

``make ui`` over such a store is tests/commands/test_pasting.py's.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from lora_foundry.launch.records.reading import read_results
from tests.root import PROJECT_ROOT

SMALL = (
    *("trainer.max_steps=2", "validation.max_images=1", "validation.timesteps=1", "sample=none"),
    *("data=folder", "data.path=./photos", "data.resolution=64", "lora.target_modules=attention"),
)
"""What makes two steps of each training; beside it the lines are the README's."""
TRIALS = 2


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has of the tree, and photos."""
    copy = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "src", "conf", "sweeps", "assets", "pyproject.toml"],  # noqa: S607
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT_ROOT / name, copy / name)
    photos = copy / "photos"
    photos.mkdir()
    for number in range(6):
        Image.new("RGB", (64, 64), (40 * number, 90, 200)).save(photos / f"{number}.png")
        (photos / f"{number}.txt").write_text(f"a sky of colour {number}")
    return copy


def _typed(clone: Path, command: str, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [sys.executable, "-m", f"src.{command}", *words]
    done = subprocess.run(line, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_rate_two_searches_and_their_report(clone: Path) -> None:
    told = _typed(clone, "find_lr", *SMALL[1:], "--rates=3", "--samples=4", "hydra.sweep.dir=found")
    on = next(line for line in told.splitlines() if line.startswith("python -m src.train "))
    assert "data.path=./photos" in on
    assert " optimizer.lr=" in on
    few = (f"hydra.sweeper.n_trials={TRIALS}", "hydra.sweeper.hours=2", *SMALL)
    _typed(clone, "train", "sweep=optuna_style", *few, "hydra.sweep.dir=styles")
    space = ("lora.rank=choice(2,4,8,16,32)", "optimizer.lr=tag(log,interval(1e-5,1e-2))")
    _typed(clone, "train", "-m", "hydra/sweeper=optuna", *space, *few, "hydra.sweep.dir=searched")
    _typed(clone, "report", "searched")
    for folder in ("styles", "searched"):
        assert [one.state for one in read_results(clone / folder)] == ["FINISHED"] * TRIALS
        assert (clone / folder / "report.html").stat().st_size > 10_000
    with closing(sqlite3.connect(clone / "mlruns" / "mlflow.db")) as store:
        (runs,) = store.execute("select count(*) from runs where status = 'FINISHED'").fetchone()
    assert runs == 3 + 2 * TRIALS + 3, "what make ui shows: each job, and each sweep's own"
