"""Stable Diffusion with a UNet and one CLIP text encoder (Rombach et al. 2022): versions 1.x and their kin."""
