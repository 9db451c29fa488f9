"""Stable Diffusion XL, known by its sizes alone."""

from lora_foundry.config.families import FamilyChoice
from lora_foundry.config.schema_denoising import DENOISING


class _Sdxl(FamilyChoice):
    task = None
    noise = "discrete"
    groups = DENOISING


CHOICE = _Sdxl()
