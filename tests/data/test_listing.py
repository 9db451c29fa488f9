"""What a data set's folders and captions tell before any image is opened."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.listing import list_data, trained_on

MakeConfig = Callable[..., DataConfig]


def test_listing_opens_no_image_and_says_what_would_be_refused(config: MakeConfig, tmp_path: Path) -> None:
    train = tmp_path / "train"
    train.mkdir()
    (train / "a.png").write_bytes(b"no image at all")
    (train / "metadata.csv").write_text("filename,prompt\na.png,red\ngone.png,blue\n")
    listed = list_data(config(val_path="nope"))
    assert [row.caption for row in listed.train] == ["red"]
    assert listed.val == ()
    assert [line.split(":")[0] for line in listed.refused] == ["data.val_path", f"{train}/metadata.csv line 3"]
    assert len(list_data(config(val_path=None, on_bad="skip")).refused) == 0


def test_relative_folders_start_where_they_are_told_to(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "photos" / "a.txt").write_text("red")
    assert len(list_data(config(path="photos", val_path=None), tmp_path).train) == 1
    assert "photos is missing" in list_data(config(path="photos", val_path=None), tmp_path / "photos").refused[0]


@pytest.mark.slow
def test_listing_imports_neither_torch_nor_pillow() -> None:
    heavy = "('torch', 'PIL', 'numpy', 'mlflow')"
    probe = f"import sys, lora_foundry.data.listing; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_epoch_of_a_fold_has_the_images_of_the_others(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in "abcdefghij":
        (tmp_path / "train" / f"{name}.png").touch()
        (tmp_path / "train" / f"{name}.txt").write_text(name)
    assert trained_on(config(val_path=None, folds=5, fold=1)) == 8
    assert trained_on(config(val_path=None, folds=5, fold=1, val_fraction=0.0)) == 8
    assert trained_on(config(val_path=None, folds=5, fold="all")) == 10
    (line,) = list_data(config(val_path=None, folds=11, fold=0)).refused
    assert line.startswith("data.folds: got 11, allowed are at most 10 folds")
