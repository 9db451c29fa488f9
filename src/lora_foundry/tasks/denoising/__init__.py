"""Taking noise away from the latents of captioned pictures."""

from lora_foundry.tasks.denoising.material import Material, Prompts
from lora_foundry.tasks.denoising.task import Denoising, blank_inputs

__all__ = ["Denoising", "Material", "Prompts", "blank_inputs"]
