"""A data set on disk and the configuration that points to it, fresh for each test."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lora_foundry.config.schema import DataConfig

MakeConfig = Callable[..., DataConfig]
Draw = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path) -> MakeConfig:
    """A DataConfig over tmp_path/train and tmp_path/val, with the named fields changed."""

    def make(**changes: Any) -> DataConfig:
        fields: dict[str, Any] = {
            "name": "test",
            "path": str(tmp_path / "train"),
            "val_path": str(tmp_path / "val"),
            "val_fraction": 0.1,
            "folds": None,
            "fold": None,
            "refit": False,
            "batch_size": 2,
            "resolution": 16,
            "crop": "center",
            "crop_variants": 3,
            "flip": False,
            "background": "white",
            "caption_dropout": 0.1,
            "caption_prefix": "",
            "captions": "auto",
            "repeats": "auto",
            "follow_links": False,
            "without": (),
            "prompts": (),
            "on_bad": "error",
            "cache_dir": str(tmp_path / "cache"),
        }
        return DataConfig(**{**fields, **changes})

    return make


@pytest.fixture
def draw() -> Draw:
    """Write a file of coloured noise, which compresses badly, so that a cut file lacks pixels."""

    def make(path: Path, *, seed: int = 0, size: tuple[int, int] = (24, 24), **save: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.Random(f"{path.name} {seed}").randbytes(size[0] * size[1] * 3)
        Image.frombytes("RGB", size, noise).save(path, **save)
        return path

    return make


@pytest.fixture
def folder(draw: Draw) -> Callable[..., Path]:
    """A folder of sound images with a metadata.csv of filename,prompt."""

    def make(path: Path, names: list[str], *, seed: int = 0) -> Path:
        for name in names:
            draw(path / name, seed=seed)
        with (path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("filename", "prompt"), *((name, f"a {Path(name).stem}") for name in names)])
        return path

    return make
