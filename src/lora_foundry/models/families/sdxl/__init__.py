"""Stable Diffusion XL, known by its sizes alone."""

from lora_foundry.config.families import FamilyChoice


class _Sdxl(FamilyChoice):
    task = None
    noise = "discrete"


CHOICE = _Sdxl()
