"""Copies in a folder of others: whole, under their own name, and never over another adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_foundry.config.tensorfile import read_tensor_header
from lora_foundry.lora.formats.adapter import Adapter
from lora_foundry.lora.formats.check import check_written
from lora_foundry.lora.formats.copying import copy_adapter
from lora_foundry.lora.formats.kohya import write_kohya
from lora_foundry.lora.formats.metadata import FileMetadata
from tests.lora.formats import builders

LAYER = "mid_block.attentions.0.proj_in"


def made(folder: Path, *, job: str, seed: int = 0, name: str = "anna") -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    file, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    meta: FileMetadata = builders.metadata(job=job)
    write_kohya(file, Adapter({LAYER: builders.lora((4, 3), 2, 2.0, seed=seed)}), meta, torch.float16)
    card.write_text(f'{{"notes": "{job}"}}')
    return file, card


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "Lora"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_card_are_copied_as_they_are(tmp_path: Path, shelf: Path) -> None:
    file, card = made(tmp_path / "job", job="a")
    assert copy_adapter(file, card, shelf) == shelf / "anna.safetensors"
    assert (shelf / "anna.safetensors").read_bytes() == file.read_bytes()
    assert (shelf / "anna.json").read_bytes() == card.read_bytes()
    assert names(shelf) == ["anna.json", "anna.safetensors"]


def test_the_same_job_trained_again_replaces_its_own(tmp_path: Path, shelf: Path) -> None:
    copy_adapter(*made(tmp_path / "once", job="a"), shelf)
    file, card = made(tmp_path / "again", job="a", seed=1)
    copy_adapter(file, card, shelf)
    assert (shelf / "anna.safetensors").read_bytes() == file.read_bytes()
    assert names(shelf) == ["anna.json", "anna.safetensors"]


def test_a_copy_under_another_name_says_so_and_is_replaced_by_the_same_job(tmp_path: Path, shelf: Path) -> None:
    """The best of a job's adapters may be an earlier one, which its file's name tells and the copy's does not."""
    file, card = made(tmp_path / "job", job="a")
    copy = copy_adapter(file, card, shelf, "bea")
    assert copy == shelf / "bea.safetensors"
    assert read_tensor_header(copy).metadata["ss_output_name"] == "bea"
    assert copy_adapter(*made(tmp_path / "again", job="a", seed=1), shelf, "bea") == copy
    assert names(shelf) == ["bea.json", "bea.safetensors"]


def test_another_adapter_is_never_replaced_and_the_copy_is_called_otherwise(tmp_path: Path, shelf: Path) -> None:
    other = copy_adapter(*made(tmp_path / "other", job="b"), shelf).read_bytes()
    file, card = made(tmp_path / "job", job="a", seed=1)
    copy = copy_adapter(file, card, shelf)
    assert copy == shelf / "anna-2.safetensors"
    assert (shelf / "anna.safetensors").read_bytes() == other
    header, before = read_tensor_header(copy).metadata, read_tensor_header(file).metadata
    assert header["ss_output_name"] == header["modelspec.title"] == "anna-2", "the web UI's alias"
    kept = before.keys() - {"ss_output_name", "modelspec.title"}
    assert all(header[key] == before[key] for key in kept)
    check_written(copy, Adapter({LAYER: builders.lora((4, 3), 2, 2.0, seed=1)}))  # its hashes too
    assert copy_adapter(file, card, shelf) == copy, "its own, the next time"
    assert copy_adapter(*made(tmp_path / "third", job="c"), shelf).name == "anna-3.safetensors"


@pytest.mark.parametrize("taken", ["anna.json", "anna.safetensors"])
def test_what_is_no_adapter_of_ours_keeps_its_name(taken: str, tmp_path: Path, shelf: Path) -> None:
    (shelf / taken).write_text("mine")
    assert copy_adapter(*made(tmp_path / "job", job="a"), shelf).name == "anna-2.safetensors"
    assert (shelf / taken).read_text() == "mine"


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        copy_adapter(*made(tmp_path / "job", job="a"), tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
