"""The configs shipped for a single file are those of Stable Diffusion 1.5."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from lora_foundry.models.families.sd.layout import CONFIGS
from lora_foundry.models.families.sd.noise import ddim_config, read_alphas_cumprod
from lora_foundry.models.tokens import tokenizer_files
from tests.root import PROJECT_ROOT

SD15 = PROJECT_ROOT / "assets/sd15-config"


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.slow
def test_sizes_are_those_of_stable_diffusion_15() -> None:
    """859.5 M (FACTS of the UNet), 83.65 M and 123.06 M parameters are SD 1.5's published sizes."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(SD15, subfolder="unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(SD15, subfolder="vae"))
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(SD15 / "text_encoder"))
    assert parameters(unet) == 859_520_964
    assert parameters(vae) == 83_653_863
    assert parameters(text) == 123_060_480
    assert vae.config.scaling_factor == 0.18215


def test_the_schedule_is_stable_diffusions() -> None:
    config = json.loads((SD15 / CONFIGS["scheduler"]).read_text())
    alphas = read_alphas_cumprod(ddim_config(config))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2  # ldm's make_beta_schedule
    expected = torch.cumprod(1 - betas, 0)
    assert torch.allclose(alphas.double(), expected, rtol=1e-4)
    assert alphas[-1] == pytest.approx(0.00466, abs=1e-5)  # the well-known remainder: no pure noise at the end


def test_the_folder_is_complete_small_and_attributed() -> None:
    assert all((SD15 / name).is_file() for name in CONFIGS.values())
    assert {path.name for path in tokenizer_files(SD15 / "tokenizer")} >= {"vocab.json", "merges.txt"}
    assert sum(path.stat().st_size for path in SD15.rglob("*") if path.is_file()) < 2_000_000
    licence = (SD15 / "tokenizer/LICENSE").read_text()
    assert "Copyright (c) 2021 OpenAI" in licence
    assert "Permission is hereby granted" in licence


def test_the_model_config_points_there() -> None:
    text = (PROJECT_ROOT / "conf/model/sd15.yaml").read_text()
    assert "config: assets/sd15-config" in text
    assert Path(PROJECT_ROOT / "assets/sd15-config").is_dir()
