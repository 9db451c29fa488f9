"""DPM-Solver++ (2M) (Lu et al. 2022, DPM-Solver++, algorithm 2), from diffusers: half the steps of DDIM will do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_foundry.models.samplers import SamplerChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from lora_foundry.models.samplers import Predict


class _Dpmpp2m(SamplerChoice):
    undoes = ("discrete",)

    def walk(self, predict: Predict, latents: Tensor, scheduler: Mapping[str, Any], steps: int) -> Tensor:
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        solver = DPMSolverMultistepScheduler.from_config(dict(scheduler))
        solver.set_timesteps(steps)
        for timestep in solver.timesteps.tolist():
            latents = solver.step(predict(latents, timestep), timestep, latents).prev_sample
        return latents


CHOICE = _Dpmpp2m()
