"""DDIM with eta 0 (Song et al. 2021, Denoising Diffusion Implicit Models, eq. 12), from diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_foundry.models.samplers import SamplerChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from lora_foundry.models.samplers import Predict


class _Ddim(SamplerChoice):
    undoes = ("discrete",)

    def walk(self, predict: Predict, latents: Tensor, scheduler: Mapping[str, Any], steps: int) -> Tensor:
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        ddim = DDIMScheduler(**scheduler)
        ddim.set_timesteps(steps)
        for timestep in ddim.timesteps.tolist():
            latents = ddim.step(predict(latents, timestep), timestep, latents, eta=0.0).prev_sample
        return latents


CHOICE = _Ddim()
