"""What the presets adapt, every reader reads, or it is known which does not."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from lora_foundry.config.compose import compose_job
from lora_foundry.lora.formats.names import flat, unread_by_kohya, unwritable
from lora_foundry.models.targets import resolve_targets, target_layers
from tests.lora.formats import comfy_keys, kohya_keys, webui_keys
from tests.root import PROJECT_ROOT

SHARED = ("attention", "attention-mlp", "all-blocks")


@pytest.fixture(scope="module", params=["sd15", "tiny"])
def unet(request: pytest.FixtureRequest) -> UNet2DConditionModel:
    with torch.device("meta"):
        if request.param == "sd15":
            return UNet2DConditionModel(cross_attention_dim=768)
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(PROJECT_ROOT / "assets/tiny-sd/unet"))


@pytest.mark.parametrize("preset", SHARED)
def test_kohyas_own_tools_know_every_layer_of_a_preset_meant_for_sharing(
    preset: str, unet: UNet2DConditionModel
) -> None:
    names = resolve_targets(target_layers({"unet": unet}), preset)
    assert {f"lora_unet_{flat(name)}" for name in names} <= kohya_keys.known(unet)
    assert unread_by_kohya(names) == []
    assert unwritable("unet", names) == []


def test_all_blocks_is_all_but_what_kohyas_tools_do_not_know(unet: UNet2DConditionModel) -> None:
    layers = target_layers({"unet": unet})
    known = kohya_keys.known(unet)
    unread = {name for name in layers if f"lora_unet_{flat(name)}" not in known}
    assert unread == {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    assert set(unread_by_kohya(layers)) == unread
    assert set(resolve_targets(layers, "all-blocks")) == set(layers) - unread


@pytest.mark.slow
@pytest.mark.parametrize("preset", [*SHARED, "all-linear", "all"])
def test_the_web_ui_and_comfyui_know_every_layer_of_every_preset(preset: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    keys = {f"lora_unet_{flat(name)}" for name in resolve_targets(target_layers({"unet": unet}), preset)}
    assert keys <= comfy_keys.known("sd1")
    assert all(webui_keys.reaches(key, "sd1") for key in keys)


@pytest.mark.slow
def test_the_default_is_a_preset_that_everyone_reads() -> None:
    assert compose_job().lora.target_modules in SHARED
