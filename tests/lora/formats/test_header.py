"""What a file's header and sidecar say, and that the hashes are right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_foundry.lora.formats.adapter import Adapter, ExportError, LoraWeights, effective_alpha
from lora_foundry.lora.formats.diffusers_file import write_diffusers
from lora_foundry.lora.formats.kohya import write_kohya
from lora_foundry.lora.formats.sidecar import write_sidecar
from tests.lora.formats import builders

NAME = "mid_block.attentions.0.proj_in"
SSHS = ("sshs_model_hash", "modelspec.hash_sha256")


def raw(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and body as the format's document says: 8 bytes of length, JSON, tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def adapter(alpha: float = 2.0, rank: int = 4) -> Adapter:
    return Adapter({NAME: builders.lora((8, 6), rank, alpha)})


def test_every_entry_of_the_kohya_header(tmp_path: Path) -> None:
    path = tmp_path / "flat-rank4.safetensors"
    write_kohya(path, adapter(alpha=2.5), builders.metadata(), torch.float16)
    header = raw(path)[0]["__metadata__"]
    assert all(isinstance(value, str) for value in header.values())
    assert {key: value for key, value in header.items() if key not in SSHS} == {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.5",
        "ss_network_args": '{"dropout": 0.1}',
        "ss_output_name": "flat-rank4",
        "ss_sd_model_name": "tiny-sd",
        "ss_resolution": "(64, 64)",
        "ss_num_train_images": "48",
        "ss_tag_frequency": '{"flat": {"red heart": 2, "pizza": 1}}',
        "ss_dataset_dirs": '{"flat": {"n_repeats": 1, "img_count": 48}}',
        "ss_bucket_info": '{"buckets": {"0": {"resolution": [64, 64], "count": 48}}, "mean_img_ar_error": 0.0}',
        "ss_training_started_at": "1750000000.000",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "flat-rank4",
        "modelspec.resolution": "64x64",
        "modelspec.date": "2025-06-15T15:06:40Z",
        "modelspec.prediction_type": "epsilon",
        "modelspec.trigger_phrase": "flat style",
        "modelspec.description": "Flat drawings.",
    }


def test_repeats_of_folders_are_in_the_header_as_kohya_writes_them(tmp_path: Path) -> None:
    meta = builders.metadata(dataset_dirs={"10_anna woman": 4, "flat": 2}, repeats={"10_anna woman": 10})
    write_kohya(tmp_path / "a.safetensors", adapter(), meta, torch.float16)
    header = raw(tmp_path / "a.safetensors")[0]["__metadata__"]
    assert json.loads(header["ss_dataset_dirs"]) == {
        "10_anna woman": {"n_repeats": 10, "img_count": 4},
        "flat": {"n_repeats": 1, "img_count": 2},
    }


@pytest.mark.parametrize("write", [write_kohya, write_diffusers])
def test_the_hashes_are_sha256_of_the_bytes_after_the_header(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, adapter(), builders.metadata(), torch.bfloat16)
    header, body = raw(path)
    digest = hashlib.sha256(body).hexdigest()
    assert header["__metadata__"]["sshs_model_hash"] == digest
    assert header["__metadata__"]["modelspec.hash_sha256"] == f"0x{digest}"
    assert len(body) > 0


def test_mixed_ranks_and_alphas_are_called_dynamic_and_a_title_is_used(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    mixed = Adapter({NAME: builders.lora((8, 6), 4, 1.0), "conv_in": builders.lora((8, 4, 3, 3), 2, 2.0)})
    write_kohya(path, mixed, builders.metadata(title="Flat"), torch.float16)
    header = raw(path)[0]["__metadata__"]
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("Dynamic", "Dynamic")
    assert (header["modelspec.title"], header["ss_output_name"]) == ("Flat", "x")


def test_a_diffusers_file_is_titled_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "flat-rank4.safetensors"
    write_diffusers(path, adapter(), builders.metadata(), torch.float16)
    header = raw(path)[0]["__metadata__"]
    assert header["modelspec.title"] == "flat-rank4"
    assert not any(key.startswith("ss_") for key in header)


def test_an_sdxl_file_is_labelled_so(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_kohya(path, adapter(), builders.sdxl_metadata(), torch.float16)
    header = raw(path)[0]["__metadata__"]
    assert header["ss_base_model_version"].startswith("sdxl_")
    assert header["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"


def test_v_prediction_is_called_v_and_sd2_is_flagged(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    meta = builders.metadata(base_version="sd_v2_768_v", prediction_type="v_prediction")
    write_kohya(path, adapter(), meta, torch.float16)
    header = raw(path)[0]["__metadata__"]
    assert (header["modelspec.prediction_type"], header["ss_v2"]) == ("v", "True")
    assert header["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora"


def test_an_unknown_base_version_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"got 'sd15', allowed is sd_v1.*sdxl_"):
        write_kohya(tmp_path / "x.safetensors", adapter(), builders.metadata(base_version="sd15"), torch.float16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_stored_in_the_asked_dtype_and_alpha_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    alpha = effective_alpha(8.0, 8, use_rslora=True)  # 22.627: neither half format holds it
    write_kohya(path, adapter(alpha=alpha), builders.metadata(), dtype)
    header = raw(path)[0]
    stored = "F16" if dtype == torch.float16 else "BF16"
    assert {entry["dtype"] for key, entry in header.items() if key.endswith(".weight")} == {stored}
    key = "lora_unet_mid_block_attentions_0_proj_in.alpha"
    assert (header[key]["dtype"], header[key]["shape"]) == ("F32", [])
    write_kohya(path, adapter(alpha=4.0), builders.metadata(), dtype)
    assert raw(path)[0][key]["dtype"] == stored


def test_rslora_is_written_as_alpha_times_the_root_of_the_rank() -> None:
    assert effective_alpha(6.0, 16, use_rslora=True) == 24.0
    assert effective_alpha(6.0, 16, use_rslora=False) == 6.0


def test_strided_weights_are_written_as_they_look(tmp_path: Path) -> None:
    whole = builders.lora((8, 6), 4, 4.0)
    strided = LoraWeights(whole.down.t().contiguous().t(), whole.up.t().contiguous().t(), 4.0)
    assert not strided.down.is_contiguous()
    for name, weights in (("a", whole), ("b", strided)):
        write_kohya(tmp_path / f"{name}.safetensors", Adapter({NAME: weights}), builders.metadata(), torch.float16)
    assert raw(tmp_path / "a.safetensors")[1] == raw(tmp_path / "b.safetensors")[1]


@pytest.mark.parametrize("write", [write_kohya, write_diffusers])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_fp16_cannot_hold_are_refused_and_the_old_file_stays(
    write: Callable[..., None], value: float, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    broken = builders.lora((8, 6), 4, 4.0)
    broken.up[0, 0] = value
    with pytest.raises(ExportError, match=r"not finite in torch\.float16"):
        write(path, Adapter({NAME: broken}), builders.metadata(), torch.float16)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("write", [write_kohya, write_diffusers])
def test_full_precision_and_empty_adapters_are_refused(write: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"torch\.float32, allowed is one of torch\.float16, torch\.bfloat16"):
        write(tmp_path / "x.safetensors", adapter(), builders.metadata(), torch.float32)
    with pytest.raises(ExportError, match="no modules"):
        write(tmp_path / "x.safetensors", Adapter(), builders.metadata(), torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_kohya(path, adapter(), builders.metadata(), torch.float16)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.safetensors", b"old")]


def test_the_sidecar_holds_what_the_web_ui_fills_in(tmp_path: Path) -> None:
    write_sidecar(tmp_path / "flat-rank4.json", builders.metadata())
    assert json.loads((tmp_path / "flat-rank4.json").read_text()) == {
        "activation text": "flat style",
        "preferred weight": 0.8,
        "sd version": "SD1",
        "description": "Flat drawings.",
        "notes": "Trained on a test.",
    }
    write_sidecar(tmp_path / "xl.json", builders.sdxl_metadata())
    assert json.loads((tmp_path / "xl.json").read_text())["sd version"] == "SDXL"


def test_a_sidecar_beside_the_wrong_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"\.json"):
        write_sidecar(tmp_path / "flat-rank4.safetensors", builders.metadata())
