"""What is trained towards, as pure functions on tensors: noise, timesteps, targets, weights, losses.

Shape legend: N rows of a batch, C latent channels, h and w latent height and width, T training timesteps.

Other rooms use of it:

- ``alpha_bar``: reading a noise schedule at given timesteps, in a precision that does not lose it;
- ``losses``: the distance between what was predicted and what was asked for;
- ``noise``: the forward diffusion process;
- ``process``: between a clean picture and pure noise;
- ``targets``: what a denoiser is asked to predict;
- ``timesteps``: which noise levels are trained and judged.
"""

from lora_foundry.objectives.losses import mse_per_sample
from lora_foundry.objectives.noise import add_noise, noise_offset, sample_noise
from lora_foundry.objectives.process import DiscreteDiffusion, NoiseProcess, denoised
from lora_foundry.objectives.targets import PREDICTION_TYPES, PredictionType, prediction_target, velocity
from lora_foundry.objectives.timesteps import Band, bands, stratified_timesteps, uniform_timestep
from lora_foundry.objectives.weighting import min_snr_weight, snr

__all__ = [
    "PREDICTION_TYPES",
    "Band",
    "DiscreteDiffusion",
    "NoiseProcess",
    "PredictionType",
    "add_noise",
    "bands",
    "denoised",
    "min_snr_weight",
    "mse_per_sample",
    "noise_offset",
    "prediction_target",
    "sample_noise",
    "snr",
    "stratified_timesteps",
    "uniform_timestep",
    "velocity",
]
