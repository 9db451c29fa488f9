"""``data.folds``: the folds of each point train as jobs of one sweep, and what is kept is trained on every image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lora_foundry.launch.records.ledger import sweep_at
from lora_foundry.training.checkpoint import load_newest
from lora_foundry.wire.verdict import read_verdict
from tests.commands.ran import Command
from tests.root import PROJECT_ROOT
from tests.training.world import distance

FOLDED = ("data=folder", "data.captions=name", "data.folds=3", "trainer.max_steps=6")


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """Seven images that can be opened."""
    folder = tmp_path / "drawings"
    folder.mkdir()
    for place, name in enumerate("abcdefg"):
        Image.new("RGB", (64, 64), (30 * place, 255 - 30 * place, 40)).save(folder / f"{name}.png")
    return folder


@pytest.mark.slow
def test_a_point_is_a_job_a_fold_without_any_flag(command: Command, photos: Path) -> None:
    ran = command(*FOLDED, f"data.path={photos}")
    assert ran.code == 0, ran.err
    assert [row["overrides"]["data.fold"] for row in ran.results().values()] == ["0", "1", "2"]
    assert sorted(ran.states()) == [f"images-rank8-fold{fold}" for fold in range(3)]


@pytest.mark.slow
def test_a_grid_has_all_folds_of_each_point_and_one_fold_alone_can_be_asked_for(command: Command, photos: Path) -> None:
    ran = command(*FOLDED, f"data.path={photos}", "lora.rank=4,8", "-m")
    assert ran.code == 0, ran.err
    points = [(row["overrides"]["lora.rank"], row["overrides"]["data.fold"]) for row in ran.results().values()]
    assert points == [(rank, str(fold)) for rank in ("4", "8") for fold in range(3)]
    (ran.sweep_dir / "verdict.json").unlink()
    assert sweep_at(ran.sweep_dir).best is None, "folds are judged on other images each"
    alone = command(*FOLDED, f"data.path={photos}", "data.fold=1", sweep_dir=ran.sweep_dir.parent / "alone")
    assert alone.code == 0, alone.err
    assert list(alone.states()) == ["images-rank8"]


@pytest.mark.slow
def test_the_job_on_every_image_comes_last_is_kept_and_has_no_number_to_be_compared(
    command: Command, photos: Path
) -> None:
    ran = command(*FOLDED, f"data.path={photos}", "lora.rank=8,4", "data.refit=true", "-m")
    assert ran.code == 0, ran.err
    last = ran.results()[6]
    assert (last["name"], last["overrides"]["lora.rank"]) == ("images-rank4-foldall", "4")
    verdict = read_verdict(ran.sweep_dir)
    assert verdict is not None
    assert verdict.job == 6
    assert str(verdict.file).endswith("6/adapter/images-rank4-foldall.safetensors")
    cells = next(line for line in ran.out.splitlines() if "foldall *" in line).split("│")
    head = next(line for line in ran.out.splitlines() if "of base's" in line).split("┃")
    assert cells[[one.strip() for one in head].index("of base's")].strip() == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data.folds=7",), "data.folds: got 7, allowed are at most 6 folds of the 6 different images of data.path"),
        (("data.fold=3",), "data.fold: got 3, allowed is from 0 to 2 (data.folds), or all"),
        (("data.val_path=assets/emoji-flat/val",), "add data.val_path=null"),
        (("data.folds=null", "data.refit=true"), "data.refit: is about data.folds, which is null"),
        (("data.folds=2,3", "-m"), "data.folds: nobody says which fold (data.fold) a job holds out"),
        (("hydra/sweeper=optuna", "lora.rank=4,8", "-m"), "data.folds: nobody says which fold"),
        (("hydra.launcher.pruner=asha",), "hydra.launcher.pruner: each fold is judged on other images"),
        (("data.refit=true", "hydra.launcher.skip_finished=true"), "data.refit: goes with a sweep of its own"),
    ],
)
def test_what_cannot_be_folded_is_one_error_before_anything_is_made(
    command: Command, photos: Path, words: tuple[str, ...], said: str
) -> None:
    given = {word.partition("=")[0] for word in words}
    rest = [word for word in FOLDED if word.partition("=")[0] not in given]
    ran = command(*rest, f"data.path={photos}", *words)
    assert ran.code == 2
    assert ran.err.count(said) == 1, ran.err
    assert not ran.sweep_dir.exists()


def _train(folder: Path, drawings: Path, cache: Path, *words: str) -> str:
    asked = (
        *FOLDED, f"data.path={drawings}", f"data.cache_dir={cache}", "trainer.precision=64-true", "data.batch_size=1",
        "lora.target_modules=[to_q]", "scheduler.warmup_steps=0", "validation.timesteps=2", "sample=none",
        "tracking=none", f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    line = [sys.executable, "-m", "src.train", *asked, *words]
    done = subprocess.run(line, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_folds_judge_every_image_once_equal_themselves_alone_and_the_best_setting_is_trained_on_all(
    tmp_path: Path, drawings: Path
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    shown = _train(together, drawings, tmp_path / "cache", "optimizer.lr=1e-5,3e-2", "data.refit=true", "-m")
    results = {row["name"]: row for row in json.loads((together / "results.json").read_text())}
    assert len(results) == 7
    for rate in ("1e-05", "0.03"):
        judged = [results[f"images-rank8-lr{rate}-fold{fold}"]["by_item"]["items"] for fold in range(3)]
        assert sorted(name for names in judged for name in names) == [f"{name}.png" for name in "abcdefg"]
    verdict = read_verdict(together)
    assert verdict is not None
    assert verdict.count == 7
    assert results[verdict.name]["overrides"]["data.fold"] == "all"
    assert verdict.sentence in " ".join(shown.split())
    assert "of the base's loss over 7 images" in shown
    _train(alone, drawings, tmp_path / "cache", "optimizer.lr=3e-2", "data.fold=1")
    weights = [
        load_newest(folder / "checkpoints")[0].weights
        for folder in (together / str(results["images-rank8-lr0.03-fold1"]["job"]), alone / "0")
    ]
    assert distance(*weights) < 1e-9
