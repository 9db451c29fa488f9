"""The content hash follows content, not place, and stays quick for gigabytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_foundry.models import hashing, open_base
from lora_foundry.models.hashing import content_hash
from tests.models.conftest import CPU, model_config


def test_a_copy_elsewhere_has_the_same_hash(folder: Path, own_folder: Path) -> None:
    assert open_base(model_config(own_folder)).base_hash == open_base(model_config(folder)).base_hash


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
    ],
)
def test_one_changed_byte_anywhere_changes_the_hash(folder: Path, own_folder: Path, name: str) -> None:
    path = own_folder / name
    content = bytearray(path.read_bytes())
    if path.suffix == ".json":
        content += b" "
    else:
        content[-1] ^= 1
    path.write_bytes(content)
    assert open_base(model_config(own_folder)).base_hash != open_base(model_config(folder)).base_hash


def test_a_file_rewritten_in_place_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"before")
    first = content_hash({"weights": path})
    path.write_bytes(b"after!")
    os.utime(path, ns=(1, 1))
    assert content_hash({"weights": path}) != first


def test_names_enter_the_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    straight = content_hash({"a": tmp_path / "a", "b": tmp_path / "b"})
    swapped = content_hash({"a": tmp_path / "b", "b": tmp_path / "a"})
    assert straight != swapped
    assert content_hash({"a": tmp_path / "a"}) != content_hash({"b": tmp_path / "a"})
    assert straight == content_hash({"b": tmp_path / "b", "a": tmp_path / "a"})


def test_of_a_large_file_every_tensor_is_sampled_and_little_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "WHOLE_BYTES", 0)
    state = {f"layer{i}": torch.full((5000,), float(i)) for i in range(8)}
    original = tmp_path / "original.safetensors"
    save_file(state, original)
    first = content_hash({"weights": original})
    assert content_hash({"weights": Path(shutil.copy(original, tmp_path / "copy.safetensors"))}) == first
    for i in range(8):
        changed = tmp_path / f"changed{i}.safetensors"
        save_file({**state, f"layer{i}": state[f"layer{i}"] + 1}, changed)
        assert content_hash({"weights": changed}) != first
    renamed = tmp_path / "renamed.safetensors"
    save_file({("other" if name == "layer3" else name): tensor for name, tensor in state.items()}, renamed)
    assert content_hash({"weights": renamed}) != first
    pickled = tmp_path / "model.ckpt"
    pickled.write_bytes(bytes(200_000))
    zeros = content_hash({"weights": pickled})
    pickled.write_bytes(bytes([1]) * 200_000)
    assert content_hash({"weights": pickled}) != zeros


def test_a_fingerprint_follows_its_own_part_and_the_dtype(folder: Path, own_folder: Path) -> None:
    def fingerprints(root: Path, dtype: torch.dtype = torch.float32) -> tuple[str, str]:
        base = open_base(model_config(root))
        return (
            base.image_encoder(dtype=dtype, device=CPU).fingerprint,
            base.caption_encoder(dtype=dtype, device=CPU).fingerprint,
        )

    images, captions = fingerprints(folder)
    assert fingerprints(folder, torch.bfloat16)[0] != images
    assert fingerprints(folder, torch.bfloat16)[1] != captions
    path = own_folder / "vae/diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    assert fingerprints(own_folder)[0] != images
    assert fingerprints(own_folder)[1] == captions
    (own_folder / "tokenizer/tokenizer_config.json").write_text('{"pad_token": "!"}')
    assert fingerprints(own_folder)[1] != captions
    unet = own_folder / "unet/diffusion_pytorch_model.safetensors"
    before = fingerprints(own_folder)
    save_file({name: tensor * 2 for name, tensor in load_file(unet).items()}, unet, metadata={"format": "pt"})
    assert fingerprints(own_folder) == before  # another UNet makes no latent stale
