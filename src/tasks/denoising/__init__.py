"""Taking noise away from the latents of captioned pictures."""

from src.tasks.denoising.material import Material, Prompts
from src.tasks.denoising.task import Denoising, blank_inputs

__all__ = ["Denoising", "Material", "Prompts", "blank_inputs"]
