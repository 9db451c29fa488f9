"""The base's noise schedule and sampler, read from whatever scheduler the base was saved with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_foundry.models.protocol import BaseError

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.objectives.targets import PredictionType

_PREDICTIONS = ("epsilon", "v_prediction")  # lora_foundry.objectives.targets has them, with torch
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
SPACINGS = ("leading", "trailing", "linspace")
_FILE = "scheduler/scheduler_config.json"
_READ = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"),
    *("rescale_betas_zero_snr", "timestep_spacing", "set_alpha_to_one"),
)
# Where neither the file nor its own class says it. What ends with no noise at all, as the others do, has alpha 1 there.
_ELSE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "timestep_spacing": "leading",
    "set_alpha_to_one": True,
}
# Latents are not bounded by 1, so nothing may be cut there; diffusers' pipelines set both of the first two as well.
_OURS = {
    "clip_sample": False,
    "steps_offset": 1,
    "thresholding": False,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
}


def schedule_problems(saved: Mapping[str, Any], wanted: str) -> list[str]:
    """What of a scheduler's saved config cannot be trained or drawn with; needs no torch.

    Args:
        saved: ``scheduler_config.json``.
        wanted: ``model.prediction_type``.
    """
    name = saved.get("_class_name", "the scheduler")
    betas, spacing = saved.get("beta_schedule", "linear"), saved.get("timestep_spacing", "leading")
    steps = saved.get("num_train_timesteps", 1000)
    has_betas = saved.get("trained_betas") is not None or "beta_schedule" in saved or "beta_end" in saved
    problems = []
    if not has_betas or saved.get("use_flow_sigmas") or "snr_shift_scale" in saved:
        problems.append(
            f"{_FILE}: {name} describes no noise schedule of the DDPM kind (betas); flow matching and others cannot be "
            "trained here"
        )
    elif saved.get("trained_betas") is None and betas not in BETAS:
        problems.append(f"{_FILE}: beta_schedule: got {betas!r}, allowed is one of {', '.join(BETAS)}")
    if spacing not in SPACINGS:
        problems.append(f"{_FILE}: timestep_spacing: got {spacing!r}, allowed is one of {', '.join(SPACINGS)}")
    if not isinstance(steps, int) or steps < 1:
        problems.append(f"{_FILE}: num_train_timesteps: got {steps!r}, allowed is a whole number of at least 1")
    try:
        read_prediction_type(saved, wanted)
    except BaseError as error:
        problems.append(f"{_FILE}: {error}")
    return problems


def ddim_config(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a DDIM scheduler is made with, from the saved config of any scheduler.

    What decides the noise is the file's; where the file does not have it, the default of the class that saved it, never
    that of DDIM. What is about latents is ours.
    """
    own = _defaults_of(str(saved.get("_class_name", "")))
    return {key: saved.get(key, own.get(key, _ELSE[key])) for key in _READ} | _OURS


def read_prediction_type(scheduler_config: Mapping[str, Any], wanted: str) -> PredictionType:
    """What the base predicts: ``wanted``, or the scheduler's word for ``auto``.

    Raises:
        BaseError: For a kind that cannot be trained here.
    """
    found = scheduler_config.get("prediction_type", "epsilon") if wanted == "auto" else wanted
    if found == "epsilon":
        return "epsilon"
    if found == "v_prediction":
        return "v_prediction"
    msg = f"the base's scheduler says prediction_type={found!r}, allowed is one of {', '.join(_PREDICTIONS)}"
    raise BaseError(msg)


def read_alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """The base's noise schedule, [T], fp32 on the CPU.

    Args:
        config: From :func:`ddim_config`.

    Raises:
        BaseError: When the config describes no schedule.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    try:
        scheduler = DDIMScheduler(**config)
    except (NotImplementedError, TypeError, ValueError) as error:
        msg = f"the base's scheduler_config.json describes no noise schedule ({error})"
        raise BaseError(msg) from error
    alphas: Tensor = scheduler.alphas_cumprod
    return alphas.detach().clone()


def _defaults_of(class_name: str) -> dict[str, Any]:
    """Defaults of the scheduler that a config was saved with; empty for one that diffusers does not have."""
    from diffusers import schedulers

    try:
        known = getattr(schedulers, class_name)
    except (AttributeError, RuntimeError):
        return {}
    parameters = inspect.signature(known.__init__).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
