"""A base that cannot be used is refused at once, with what was got, what is allowed and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_foundry.models import BaseError, open_base
from tests.models.conftest import TOKENS, model_config
from tests.root import PROJECT_ROOT


def test_sizes_are_read_from_the_configs(folder: Path) -> None:
    base = open_base(model_config(folder))
    assert base.pixels_per_cell == 4  # three levels of the VAE halve twice
    assert base.stride == 16  # and so do three levels of the UNet
    assert base.max_tokens == TOKENS


def test_nothing_there_names_the_path_and_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"nothing.*absent.*folder in diffusers' format.*hub id"):
        open_base(model_config(tmp_path / "absent"))


def test_a_missing_single_file_is_not_taken_for_a_hub_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("models/v1-5-pruned.safetensors", "./models/v1-5-pruned.safetensors", "models/sd.ckpt"):
        with pytest.raises(BaseError, match="there is nothing"):
            open_base(model_config(path))


def test_a_hub_id_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseError, match=r"someone/some-model.*cannot be reached.*give its path"):
        open_base(model_config("someone/some-model"))


def test_a_hub_id_is_found_in_the_hubs_cache_without_a_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--some-model"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).symlink_to(folder, target_is_directory=True)
    assert open_base(model_config("someone/some-model")).base_hash == open_base(model_config(folder)).base_hash


def test_every_missing_file_of_a_folder_is_listed_at_once(own_folder: Path) -> None:
    for name in ("vae/config.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"):
        (own_folder / name).unlink()
    (own_folder / "scheduler/scheduler_config.json").write_text("{not json")
    with pytest.raises(BaseError) as error:
        open_base(model_config(own_folder))
    text = str(error.value)
    assert "vae/config.json: missing" in text
    assert "unet/diffusion_pytorch_model.safetensors: missing" in text
    assert "tokenizer: no tokenizer" in text
    assert "scheduler_config.json: cannot be read as JSON" in text
    assert text.count("  - ") == 4


def test_a_folder_with_pickled_weights_says_to_convert_them(own_folder: Path) -> None:
    path = own_folder / "unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(BaseError, match=r"diffusion_pytorch_model\.bin beside it is pickled.*convert it"):
        open_base(model_config(own_folder))


def test_a_file_cut_short_is_found_before_it_is_read(own_folder: Path) -> None:
    path = own_folder / "vae/diffusion_pytorch_model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(BaseError, match=f"cut short, {len(content) - 1} of {len(content)} bytes"):
        open_base(model_config(own_folder))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 4\n", "git lfs pull"),
        (b"<html>not found</html>", "no safetensors file"),
        (b"", "no safetensors file"),
        ((2**40).to_bytes(8, "little") + b"{}", "no safetensors file"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(own_folder: Path, content: bytes, says: str) -> None:
    (own_folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(BaseError, match=says):
        open_base(model_config(own_folder))


def test_a_missing_shard_is_named(own_folder: Path) -> None:
    (own_folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    (own_folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BaseError, match=r"00001-of-00002\.safetensors: missing"):
        open_base(model_config(own_folder))


def test_a_single_file_without_configs_says_which_to_give(single: Path) -> None:
    with pytest.raises(BaseError, match=r"model\.config: got null.*assets/sd15-config"):
        open_base(model_config(single))
    with pytest.raises(BaseError, match=r"model\.config: got '/absent', which is no folder"):
        open_base(model_config(single, config="/absent"))


def test_configs_of_a_single_file_must_be_complete(single: Path, configs: Path) -> None:
    (configs / "text_encoder/config.json").unlink()
    with pytest.raises(BaseError, match=r"model\.config.*\n.*text_encoder/config\.json: missing"):
        open_base(model_config(single, config=str(configs)))


def test_a_file_that_is_no_whole_base_is_refused_by_name(single: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "unet-only.safetensors"
    state = {n: t for n, t in load_file(single).items() if n.startswith("model.diffusion_model.")}
    save_file(state, path)
    with pytest.raises(BaseError, match=r"first_stage_model\.\* \(vae\), cond_stage_model\.transformer\.\* \(text"):
        open_base(model_config(path, config=str(folder)))


def test_another_kind_of_file_is_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(BaseError, match=r"a \.gguf file; allowed is"):
        open_base(model_config(path, config=str(folder)))


class Surprise:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_pickled_checkpoint_with_code_is_refused_and_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}, "callback": Surprise()}, path)
    with pytest.raises(BaseError, match=r"pickled checkpoint that holds more than tensors.*safetensors: convert"):
        open_base(model_config(path, config=str(folder)))
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle"])
def test_a_broken_pickled_checkpoint_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(BaseError, match="is broken"):
        open_base(model_config(path, config=str(folder)))


def test_a_stride_that_does_not_fit_the_base_is_refused(folder: Path) -> None:
    with pytest.raises(BaseError, match=r"model\.stride: got 8, allowed is a multiple of 16"):
        open_base(model_config(folder, stride=8))


def test_a_prediction_that_cannot_be_trained_is_refused(own_folder: Path) -> None:
    path = own_folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    with pytest.raises(BaseError, match="prediction_type='sample', allowed is one of epsilon, v_prediction"):
        open_base(model_config(own_folder))


@pytest.mark.slow
def test_opening_hashing_and_counting_import_no_torch(folder: Path) -> None:
    program = f"""
import sys
from lora_foundry.config.schema_denoising import DenoisingModel
from lora_foundry.models import open_base
base = open_base(DenoisingModel(name="x", family="sd", path={str(folder)!r}, config=None, revision=None,
                             version="sd_v1", stride=16, prediction_type="auto"))
assert len(base.base_hash) == 64 and base.count_tokens("red heart") == 4
print(sorted({{"torch", "diffusers", "transformers", "huggingface_hub", "numpy"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
