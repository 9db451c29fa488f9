"""Whatever scheduler a base was saved with, its noise is the base's own and its pictures are no smears."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, schedulers
from torch import Tensor

from lora_foundry.models import BaseError, open_base
from lora_foundry.models.families.sd.noise import ddim_config, read_alphas_cumprod, schedule_problems
from lora_foundry.models.sampling import draw
from lora_foundry.objectives import DiscreteDiffusion
from tests.models.conftest import CPU, SCHEDULER, model_config

# Diffusers' own use of numpy, in classes that are made here only to be saved.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
BETAS = {"beta_start": 0.0005, "beta_end": 0.015, "beta_schedule": "scaled_linear", "num_train_timesteps": 500}
OF_ITS_OWN = {"CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"}  # they shift the signal-to-noise ratio of the betas


def classes() -> dict[str, Any]:
    names = [name for name in dir(schedulers) if name.endswith("Scheduler") and not name.startswith("Flax")]
    found = {name: getattr(schedulers, name) for name in names}
    return {name: one for name, one in found.items() if inspect.isclass(one) and "dummy" not in one.__module__}


def betas(name: str) -> dict[str, Any]:
    """A schedule that the class knows."""
    return BETAS | ({"beta_schedule": "squaredcos_cap_v2"} if name == "UnCLIPScheduler" else {})


def parameters(scheduler: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(scheduler.__init__).parameters)


WITH_BETAS = sorted(n for n, c in classes().items() if "beta_schedule" in parameters(c) and n not in OF_ITS_OWN)
WITHOUT = sorted(n for n, c in classes().items() if "beta_schedule" not in parameters(c) or n in OF_ITS_OWN)


def saved(name: str, folder: Path, **changes: Any) -> tuple[Any, dict[str, Any]]:
    """A scheduler of a class, and the config that it saves."""
    scheduler_class = classes()[name]
    known = parameters(scheduler_class)
    given = {**betas(name), "prediction_type": "v_prediction", "timestep_spacing": "trailing", **changes}
    scheduler = scheduler_class(**{key: value for key, value in given.items() if key in known})
    scheduler.save_pretrained(folder)
    return scheduler, json.loads((folder / "scheduler_config.json").read_text())


class Waves:
    """A denoiser whose pictures go far beyond 1, as latents do."""

    dtype = torch.float64
    device = CPU
    latent_channels = 4

    def __init__(self, scheduler_config: dict[str, Any]) -> None:
        self.scheduler_config = scheduler_config
        self.process = DiscreteDiffusion(read_alphas_cumprod(scheduler_config), "epsilon")

    def denoise(self, noisy: Tensor, timesteps: Tensor, _told: dict[str, Tensor]) -> Tensor:
        return 3 * torch.sin(noisy * 2 + timesteps[:, None, None, None] / 100)


def pictures(config: dict[str, Any]) -> Tensor:
    told = {"encoder_hidden_states": torch.zeros(1, 1, 1)}
    return draw(
        Waves(config),  # type: ignore[arg-type]  # what drawing needs of one
        conditioning=told,
        empty_conditioning=told,
        seeds=[3],
        steps=5,
        guidance=1.0,
        side=8,
    )


def test_there_are_many_classes() -> None:
    assert len(WITH_BETAS) > 15
    assert {"EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler", "DDIMScheduler"} <= set(
        WITH_BETAS
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_BETAS)
def test_alphas_and_pictures_are_those_of_the_class_that_saved_the_config(name: str, tmp_path: Path) -> None:
    scheduler, config = saved(name, tmp_path)
    assert schedule_problems(config, "v_prediction") == []
    ours = ddim_config(config)
    assert torch.allclose(read_alphas_cumprod(ours), scheduler.alphas_cumprod.float().cpu(), rtol=1e-5, atol=1e-7)
    reference = {
        **betas(name),
        "clip_sample": False,
        "thresholding": False,
        "steps_offset": 1,  # diffusers' pipelines set it so
        "prediction_type": config.get("prediction_type", "epsilon"),
        "timestep_spacing": config.get("timestep_spacing", "leading"),
        "set_alpha_to_one": config.get("set_alpha_to_one", True),
    }
    expected = pictures(DDIMScheduler(**reference).config | {})
    assert torch.equal(pictures(ours), expected)
    assert expected.abs().max() > 1.5, "clipping would show"


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_BETAS)
def test_what_an_old_config_does_not_say_is_its_own_class_default(name: str, tmp_path: Path) -> None:
    scheduler, config = saved(name, tmp_path)
    defaults = {key: one.default for key, one in parameters(scheduler).items()}
    few = {"_class_name": name, "beta_schedule": config["beta_schedule"]}
    for key, value in ddim_config(few).items():
        if (
            key in defaults
            and key not in few
            and key in ("beta_start", "beta_end", "timestep_spacing", "set_alpha_to_one")
        ):
            assert value == defaults[key], key


@pytest.mark.parametrize("name", WITHOUT)
def test_a_class_without_betas_is_refused(name: str, tmp_path: Path) -> None:
    try:
        _, config = saved(name, tmp_path)
    except TypeError:  # a class that cannot be made without its model
        config = {"_class_name": name}
    assert any("describes no noise schedule" in line for line in schedule_problems(config, "epsilon"))


def test_every_argument_of_ddim_is_set() -> None:
    wanted = set(parameters(DDIMScheduler)) - {"self"}
    assert set(ddim_config({"_class_name": "Unknown", "beta_schedule": "linear"})) == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"} | dict.fromkeys(("beta_schedule", "beta_end")), None),
        ({"use_flow_sigmas": True}, "flow matching"),
        ({"beta_schedule": "laplace"}, "beta_schedule: got 'laplace', allowed is one of linear"),
        ({"prediction_type": "sample"}, "prediction_type='sample', allowed is one of epsilon, v_prediction"),
        ({"timestep_spacing": "karras"}, "timestep_spacing: got 'karras'"),
        ({"num_train_timesteps": 0}, "num_train_timesteps: got 0"),
    ],
)
def test_a_schedule_that_cannot_be_trained_is_refused_when_the_base_is_opened(
    changes: dict[str, Any], says: str | None, own_folder: Path
) -> None:
    path = own_folder / "scheduler/scheduler_config.json"
    config = {key: value for key, value in {**SCHEDULER, **changes}.items() if value is not None}
    path.write_text(json.dumps(config))
    with pytest.raises(BaseError, match=says or "no noise schedule"):
        open_base(model_config(own_folder))
