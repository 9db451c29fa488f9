"""Write the base as a Stable Diffusion folder in fp16, replacing the old folder in one go."""

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from recipes.tiny_sd.sizes import new_scheduler

KEPT = ("README.md", "prompts.txt", "contact_sheet.png")


def build_pipeline(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """Join the parts to a Stable Diffusion pipeline without a safety checker."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export(pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Save a copy of the pipeline in fp16; a reader finds the old folder or the new one.

    Args:
        pipeline: The pipeline in fp32, left as it is.
        target: Folder to write; its card, list of prompts and contact sheet are kept.
    """
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    parts = {
        name: copy.deepcopy(part).half() if isinstance(part, torch.nn.Module) else part
        for name, part in pipeline.components.items()
    }
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(fresh, safe_serialization=True)
    _load_text_encoder_as_fp32(fresh / "text_encoder" / "config.json")
    for file in fresh.rglob("*.safetensors"):
        file.chmod(0o644)
    for name in KEPT:
        if (target / name).is_file():
            shutil.copy2(target / name, fresh / name)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _load_text_encoder_as_fp32(config: Path) -> None:
    """Name fp32 in the text encoder's config.

    transformers 5 loads a model in the dtype that its config names, diffusers in fp32: without this a pipeline
    loaded with no arguments would have a text encoder in fp16 beside a UNet in fp32, and could not run.
    """
    state = json.loads(config.read_text(encoding="utf-8"))
    state["dtype"] = "float32"
    config.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
