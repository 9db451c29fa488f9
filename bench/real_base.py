"""A base of Stable Diffusion 1.5's real size with random weights: it takes the time and the memory of the real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench import PROJECT_ROOT

CONFIGS = PROJECT_ROOT / "assets" / "sd15-config"
_PARTS = {
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def make_base(folder: Path) -> Path:
    """Write a diffusers folder (4.1 GiB, fp32: UNet 859.5 M parameters, VAE, text encoder), unless it is there."""
    index = folder / "model_index.json"
    if index.exists():
        return folder
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        kind.from_config(kind.load_config(CONFIGS / name)).save_pretrained(folder / name)
    CLIPTextModel(CLIPTextConfig.from_pretrained(CONFIGS / "text_encoder")).save_pretrained(folder / "text_encoder")
    for name in ("scheduler", "tokenizer"):
        shutil.copytree(CONFIGS / name, folder / name, dirs_exist_ok=True)
    absent = {name: [None, None] for name in ("safety_checker", "feature_extractor", "image_encoder")}
    described = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False}
    index.write_text(json.dumps({**described, **absent, **_PARTS}))
    return folder
