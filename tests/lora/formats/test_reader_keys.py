"""Every key of a kohya file is known to the web UI, ComfyUI and diffusers, for all modules that can be trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from diffusers.utils import convert_unet_state_dict_to_peft
from safetensors import safe_open

from lora_foundry.lora.formats.adapter import Adapter, ExportError, LoraWeights
from lora_foundry.lora.formats.kohya import write_kohya
from lora_foundry.lora.formats.names import dotted, flat, unwritable
from tests.lora.formats import builders, comfy_keys, webui_keys

# Found by diffusers and ComfyUI only: the web UI numbers the first upsampler as if no attention stood before it.
WEBUI_DROPS = {"sd1": set(), "sdxl": {"lora_unet_up_blocks_0_upsamplers_0_conv"}}


def small(names: tuple[str, ...]) -> dict[str, LoraWeights]:
    return {name: LoraWeights(torch.ones(2, 3), torch.ones(3, 2), 1.0) for name in names}


def whole_adapter(base: str) -> Adapter:
    unet = builders.sd15_unet_modules() if base == "sd1" else builders.sdxl_unet_modules()
    writable = tuple(name for name in unet if not name.startswith("add_embedding"))
    second = builders.clip_modules(32, projected=True) if base == "sdxl" else ()
    return Adapter(small(writable), small(builders.clip_modules(12)), small(second))


@pytest.fixture(params=["sd1", "sdxl"], scope="module")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[str]]:
    base: str = request.param
    meta = builders.metadata() if base == "sd1" else builders.sdxl_metadata()
    path = tmp_path_factory.mktemp("keys") / "whole.safetensors"
    write_kohya(path, whole_adapter(base), meta, torch.float16)
    with safe_open(path, framework="pt") as file:
        return base, set(file.keys())


@pytest.mark.slow
def test_every_adaptable_module_is_in_the_file_with_down_up_and_alpha(written: tuple[str, set[str]]) -> None:
    base, keys = written
    suffixes = ("lora_down.weight", "lora_up.weight", "alpha")
    expected = sum(1 for _ in whole_adapter(base).modules())
    attention = [key for key in keys if key.startswith("lora_unet_") and "_attentions_" in key]
    text = [key for key in keys if key.startswith("lora_te")]
    # Kohya's own trainer reports 192 + 72 modules for SD 1.5 and 722 + 264 for SDXL (attentions and text encoders).
    assert (len(attention) // 3, len(text) // 3) == ((192, 72) if base == "sd1" else (722, 264))
    assert len(keys) == 3 * expected
    assert {key.split(".", 1)[1] for key in keys} == set(suffixes)


@pytest.mark.slow
def test_the_web_ui_reaches_a_module_of_the_base_with_every_key(written: tuple[str, set[str]]) -> None:
    base, keys = written
    names = {key.split(".")[0] for key in keys}
    dropped = {name for name in names if webui_keys.reaches(name, base) is None}
    assert dropped == WEBUI_DROPS[base]
    reached = [webui_keys.reaches(name, base) for name in names - dropped]
    assert len(set(reached)) == len(reached)


def test_comfyui_knows_every_key(written: tuple[str, set[str]]) -> None:
    base, keys = written
    known = {f"{module}.{suffix}" for module in comfy_keys.known(base) for suffix in comfy_keys.SUFFIXES}
    assert keys - known == set()


def test_diffusers_converter_gives_the_modules_own_names_back(written: tuple[str, set[str]]) -> None:
    base, keys = written
    assert all(key.startswith(("lora_te_", "lora_unet_", "lora_te1_", "lora_te2_")) for key in keys)
    tensors = {key: torch.tensor(1.0) if key.endswith("alpha") else torch.ones(2, 2) for key in keys}
    converted, _ = _convert_non_diffusers_lora_to_diffusers(tensors)
    unet = {key.removeprefix("unet."): value for key, value in converted.items() if key.startswith("unet.")}
    modules = {key.removesuffix(".lora_A.weight") for key in convert_unet_state_dict_to_peft(unet) if "lora_A" in key}
    assert modules == set(whole_adapter(base).unet)


def test_a_name_taken_from_a_flattened_text_encoder_is_written_with_text_model(tmp_path: Path) -> None:
    path = tmp_path / "te.safetensors"
    adapter = Adapter(text_encoder=small(("encoder.layers.0.self_attn.q_proj",)))
    write_kohya(path, adapter, builders.metadata(), torch.float16)
    with safe_open(path, framework="pt") as file:
        assert {key.split(".")[0] for key in file.keys()} == {  # noqa: SIM118
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
        }


@pytest.mark.parametrize("component", ["unet", "text_encoder"])
def test_underscored_names_are_resolved_without_the_live_model(component: str) -> None:
    names = builders.sdxl_unet_modules() + builders.sd15_unet_modules()
    names = tuple(name for name in names if not name.startswith("add_embedding"))
    if component == "text_encoder":
        names = tuple(Adapter(text_encoder=small(builders.clip_modules(12))).text_encoder)
    assert [dotted(component, flat(name)) for name in names] == list(names)
    assert len({flat(name) for name in names}) == len(set(names))


def test_a_module_that_a_reader_would_lose_is_refused_by_name(tmp_path: Path) -> None:
    names = ("add_embedding.linear_1", "mid_block.resnets.0.conv1", "mid_block.resnets.0.norm1")
    assert unwritable("unet", names) == ["add_embedding.linear_1", "mid_block.resnets.0.norm1"]
    with pytest.raises(ExportError, match=r"(?s)unet\.add_embedding\.linear_1.*unet\.mid_block\.resnets\.0\.norm1"):
        write_kohya(tmp_path / "x.safetensors", Adapter(small(names)), builders.metadata(), torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_the_second_text_encoder_always_has_q_k_v_and_out(tmp_path: Path) -> None:
    stem = "text_model.encoder.layers.3"
    partial = small((f"{stem}.self_attn.q_proj", f"{stem}.self_attn.out_proj", f"{stem}.mlp.fc1"))
    path = tmp_path / "te2.safetensors"
    write_kohya(path, Adapter(text_encoder_2=partial), builders.sdxl_metadata(), torch.float16)
    with safe_open(path, framework="pt") as file:
        names = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
        added = file.get_tensor("lora_te2_text_model_encoder_layers_3_self_attn_v_proj.lora_up.weight")
    assert webui_keys.applied_text_encoder_2(names) == names
    assert len(names) == 5
    assert not added.any()


def test_a_second_text_encoder_without_an_sdxl_base_is_refused(tmp_path: Path) -> None:
    adapter = Adapter(text_encoder_2=small(("text_model.encoder.layers.0.mlp.fc1",)))
    with pytest.raises(ExportError, match="sdxl_"):
        write_kohya(tmp_path / "x.safetensors", adapter, builders.metadata(), torch.float16)
