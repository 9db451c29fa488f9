"""What a base's forward relies on is checked when it is opened, not met in the first step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_foundry.models import BaseError, open_base
from tests.models.conftest import CPU, TOKENS, model_config

NINE = r"unet/config\.json: in_channels: got 9, so this is an inpainting model; allowed is 4"
FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "nine channels": ("unet", {"in_channels": 9}, NINE),
    "more outputs": ("unet", {"out_channels": 8}, r"out_channels: got 8.*allowed is 4"),
    "another width": ("unet", {"cross_attention_dim": 32}, r"cross_attention_dim: got 32, allowed is 16, the width"),
    "several widths": (
        "unet",
        {"cross_attention_dim": [16, 16, 16]},
        r"cross_attention_dim: got \[16, 16, 16\]",
    ),
    "class labels": ("unet", {"num_class_embeds": 10}, r"num_class_embeds: got 10, class labels"),
    "class embedding": ("unet", {"class_embed_type": "timestep"}, r"class_embed_type: got 'timestep'"),
    "sdxl": ("unet", {"addition_embed_type": "text_time"}, r"addition_embed_type: got 'text_time'.*SDXL"),
    "image prompts": ("unet", {"encoder_hid_dim_type": "image_proj"}, r"encoder_hid_dim_type"),
    "another network": ("unet", {"_class_name": "UNet3DConditionModel"}, r"_class_name: got 'UNet3DConditionModel'"),
    "no blocks": ("unet", {"block_out_channels": []}, r"block_out_channels: got \[\], allowed is a list of whole"),
    "no numbers": ("unet", {"block_out_channels": None}, r"block_out_channels: got None"),
    "sixteen latents": ("vae", {"latent_channels": 16}, r"in_channels: got 4; allowed is 16"),
    "grey pictures": ("vae", {"in_channels": 1}, r"vae/config\.json: in_channels: got 1, allowed is 3"),
    "no scale": ("vae", {"scaling_factor": 0}, r"scaling_factor: got 0, allowed is a number above 0"),
    "scaled otherwise": ("vae", {"latents_mean": [0.1] * 4}, r"latents_mean: got \[0\.1.*allowed is null"),
    "another vae": ("vae", {"_class_name": "VQModel"}, r"_class_name: got 'VQModel', allowed is AutoencoderKL"),
    "another encoder": ("text_encoder", {"architectures": ["T5EncoderModel"]}, r"architectures: got T5EncoderModel"),
    "few words": ("text_encoder", {"vocab_size": 100}, r"tokenizer: 200 tokens, but .* vocab_size 100"),
    "a wider encoder": ("text_encoder", {"hidden_size": 64}, r"cross_attention_dim: got 16, allowed is 64"),
    "more positions": (
        "text_encoder",
        {"max_position_embeddings": 77},
        r"max_position_embeddings is 77, but",
    ),
}


def change(folder: Path, part: str, **values: Any) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_base_that_the_forward_would_stumble_over_is_refused_when_it_is_opened(fault: str, own_folder: Path) -> None:
    part, values, says = FAULTS[fault]
    change(own_folder, part, **values)
    with pytest.raises(BaseError, match=says):
        open_base(model_config(own_folder))


def test_all_faults_are_listed_at_once(own_folder: Path) -> None:
    change(own_folder, "unet", in_channels=9, cross_attention_dim=32, num_class_embeds=3)
    with pytest.raises(BaseError) as error:
        open_base(model_config(own_folder))
    assert str(error.value).count("\n  - ") == 3


def test_configs_may_leave_out_what_is_the_libraries_default(own_folder: Path) -> None:
    path = own_folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    assert (config.pop("in_channels"), config.pop("out_channels")) == (4, 4)
    path.write_text(json.dumps(config))
    assert open_base(model_config(own_folder)).stride == 16


def test_weights_that_contradict_the_configs_are_found_by_their_header(own_folder: Path) -> None:
    path = own_folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"] = torch.zeros(32, 9, 3, 3)
    save_file(weights, path)
    with pytest.raises(BaseError, match=r"in_channels is 4, but the weights have 9 \(an inpainting model\)"):
        open_base(model_config(own_folder))


def test_a_single_file_of_other_sizes_is_refused_with_both_paths(single: Path, folder: Path, tmp_path: Path) -> None:
    state = load_file(single)
    state["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(32, 9, 3, 3)
    path = tmp_path / "inpainting.safetensors"
    save_file(state, path)
    with pytest.raises(
        BaseError, match=r"inpainting\.safetensors.*\n.*the weights have 9 \(an inpainting model\)"
    ) as error:
        open_base(model_config(path, config=str(folder)))
    assert str(folder) in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(("marker", "snr"), [(("v_pred",), False), (("v_pred", "ztsnr"), True)])
def test_a_single_files_marker_of_its_noise_is_heeded(
    marker: tuple[str, ...], snr: bool, single: Path, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "v.safetensors"
    save_file(load_file(single) | dict.fromkeys(marker, torch.tensor([])), path)
    place = {"dtype": torch.float32, "device": CPU}
    denoiser = open_base(model_config(path, config=str(folder))).load_denoiser(**place)
    assert denoiser.process.predicts == "v_prediction"
    assert (float(denoiser.process.alphas_cumprod[-1]) < 1e-6) == snr  # pure noise at the end (Lin et al. 2024)
    said = open_base(model_config(path, config=str(folder), prediction_type="epsilon")).load_denoiser(**place)
    assert said.process.predicts == "epsilon"


def test_a_single_files_modelspec_says_what_it_predicts_too(single: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    save_file(load_file(single), path, metadata={"modelspec.prediction_type": "v"})
    base = open_base(model_config(path, config=str(folder)))
    assert base.load_denoiser(dtype=torch.float32, device=CPU).process.predicts == "v_prediction"


def variant(folder: Path, name: str, part: str = "unet") -> Path:
    path = folder / part / ("model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors")
    return path.rename(path.with_suffix(f".{name}.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp16", "bf16", "non_ema"])
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_variant_alone_is_opened_and_gives_the_same_weights(
    name: str, part: str, own_folder: Path, folder: Path
) -> None:
    variant(own_folder, name, part)
    base = open_base(model_config(own_folder))
    assert bool(base.remarks) == (name == "non_ema")
    assert all("without averaging (non_ema)" in line for line in base.remarks)
    if part == "unet":
        place = {"dtype": torch.float32, "device": CPU}
        one, two = (open_base(model_config(path)).load_denoiser(**place).module for path in (own_folder, folder))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_fp8_weights_are_opened_and_remarked_on(own_folder: Path) -> None:
    path = own_folder / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(path).items()}, path)
    base = open_base(model_config(own_folder))
    assert "kept in fp8" in base.remarks[0]
    assert base.load_denoiser(dtype=torch.float32, device=CPU).dtype == torch.float32


def test_another_variant_is_named_where_nothing_else_is_there(own_folder: Path) -> None:
    variant(own_folder, "int4")
    with pytest.raises(BaseError, match=r"missing; there is diffusion_pytorch_model\.int4\.safetensors"):
        open_base(model_config(own_folder))


def test_a_tokenizer_that_ends_earlier_than_the_encoder_decides(own_folder: Path) -> None:
    assert open_base(model_config(own_folder)).max_tokens == TOKENS
    (own_folder / "tokenizer/tokenizer_config.json").write_text(json.dumps({"model_max_length": 8}))
    assert open_base(model_config(own_folder)).max_tokens == 8
    (own_folder / "tokenizer/tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))
    assert open_base(model_config(own_folder)).max_tokens == TOKENS


@pytest.mark.slow
def test_a_pickled_checkpoint_of_an_old_torch_is_opened_as_a_new_one_is(
    single: Path, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": load_file(single)}, path, _use_new_zipfile_serialization=False)
    old = open_base(model_config(path, config=str(folder))).load_denoiser(dtype=torch.float32, device=CPU)
    new = open_base(model_config(single, config=str(folder))).load_denoiser(dtype=torch.float32, device=CPU)
    pairs = zip(old.module.parameters(), new.module.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_layers_are_known_without_the_weights(single: Path, folder: Path) -> None:
    in_folder = open_base(model_config(folder)).layers()
    assert in_folder == open_base(model_config(single, config=str(folder))).layers()
    denoiser = open_base(model_config(folder)).load_denoiser(dtype=torch.float32, device=CPU)
    assert in_folder == {n: tuple(denoiser.module.get_submodule(n).weight.shape) for n in denoiser.layers}


def test_copies_of_a_folder_without_its_scheduler_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "scheduler/scheduler_config.json").unlink()
    with pytest.raises(BaseError, match=r"scheduler_config\.json: missing"):
        open_base(model_config(copy))
