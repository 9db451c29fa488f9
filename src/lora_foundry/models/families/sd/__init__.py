"""Stable Diffusion with a UNet and one CLIP text encoder (Rombach et al. 2022): versions 1.x and their kin."""

from lora_foundry.config.families import FamilyChoice


class _Sd(FamilyChoice):
    task = "denoising"
    noise = "discrete"


CHOICE = _Sd()
