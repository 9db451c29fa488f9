"""Stable Diffusion with a UNet and one CLIP text encoder (Rombach et al. 2022): versions 1.x and their kin."""

from lora_foundry.config.families import FamilyChoice
from lora_foundry.config.schema_denoising import DENOISING


class _Sd(FamilyChoice):
    task = "denoising"
    noise = "discrete"
    groups = DENOISING


CHOICE = _Sd()
