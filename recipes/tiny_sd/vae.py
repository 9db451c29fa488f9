"""Train the autoencoder on every Noto drawing, then centre its latents."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from recipes.tiny_sd.fetch import picture_folder, read_entries
from recipes.tiny_sd.loop import indices
from recipes.tiny_sd.pictures import compose, read_rgba
from recipes.tiny_sd.sizes import new_vae
from recipes.tiny_sd.styles import duotone

BATCH = 16
SEED = 11
KL_WEIGHT = 1e-3
EDGE_WEIGHT = 0.3
MSE_WEIGHT = 0.5
WHITE_SHARE = 0.6
DUOTONE_SHARE = 0.2
SWAP_SHARE = 0.3


class VaeTrainee:
    """The autoencoder and the pictures it learns to copy.

    Args:
        cutouts: Drawings `[N, 4, 64, 64]` as bytes, red, green, blue, alpha.
        duotones: The same drawings as duotones `[N, 3, 64, 64]`, bytes.
    """

    def __init__(self, cutouts: Tensor, duotones: Tensor) -> None:
        self.cutouts = cutouts
        self.duotones = duotones
        self.vae = new_vae()
        self.modules = nn.ModuleDict({"vae": self.vae})

    def loss(self, step: int) -> Tensor:
        """Return L1 + MSE + the L1 of image gradients + a tiny KL of a step's pictures."""
        stream = torch.Generator().manual_seed(SEED * 1_000_003 + step)
        picture = self._pictures(step, stream)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = self.vae.encode(picture).latent_dist
            copy = self.vae.decode(posterior.sample(generator=stream)).sample.float()
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        error = copy - picture
        edges = _slopes(error)
        return error.abs().mean() + MSE_WEIGHT * error.square().mean() + EDGE_WEIGHT * edges + KL_WEIGHT * kl

    def _pictures(self, step: int, stream: torch.Generator) -> Tensor:
        """Draw a batch `[B, 3, 64, 64]` in -1 to 1, on white mostly, some on colours, some as duotones."""
        chosen = indices(step, BATCH, len(self.cutouts), SEED)
        cutout = self.cutouts[chosen].float() / 255.0
        draws = torch.rand(BATCH, 8, generator=stream)
        colour = torch.where(draws[:, :1] < WHITE_SHARE, torch.ones(BATCH, 3), draws[:, 1:4])[..., None, None]
        alpha = cutout[:, 3:]
        picture = cutout[:, :3] * alpha + colour * (1.0 - alpha)
        redrawn = draws[:, 4] > 1.0 - DUOTONE_SHARE
        picture[redrawn] = self.duotones[chosen][redrawn].float() / 255.0
        swapped = draws[:, 5] < SWAP_SHARE
        picture[swapped] = picture[swapped][:, torch.randperm(3, generator=stream)]
        mirrored = draws[:, 6] < 0.5  # noqa: PLR2004 - every other one
        picture[mirrored] = picture[mirrored].flip(-1)
        return picture * 2.0 - 1.0


def read_vae_pictures(work: Path) -> VaeTrainee:
    """Read all Noto drawings, skin tones and flags left out, for the autoencoder."""
    folder = picture_folder(work, "google")
    names = [entry["image"] for entry in read_entries(work) if entry["has_img_google"] and entry["category"] != "Flags"]
    cutouts = np.stack([read_rgba(folder / name) for name in names])
    duotones = np.stack([duotone(cutout) for cutout in cutouts])
    return VaeTrainee(_bytes(cutouts), _bytes(duotones))


def read_subject_pictures(work: Path, images: list[str]) -> Tensor:
    """Return the subjects' drawings on white, `[N, 3, 64, 64]` in -1 to 1."""
    folder = picture_folder(work, "google")
    pictures = np.stack([compose(read_rgba(folder / name)) for name in images])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous() * 2.0 - 1.0


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor, batch: int = 64) -> Tensor:
    """Return unscaled latents `[N, 4, 16, 16]`, the means of the posteriors."""
    return torch.cat([vae.encode(part).latent_dist.mode() for part in pictures.split(batch)])


@torch.no_grad()
def centre_latents(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Make each latent channel have mean 0 and the same deviation, and set `scaling_factor` to its inverse.

    The change is folded into the 1 x 1 convolutions on both sides of the latents, so what is drawn stays the
    same, and a plain Stable Diffusion pipeline (which knows one scaling factor and no shift) needs nothing more.

    Args:
        vae: The trained autoencoder, changed in place.
        pictures: `[N, 3, 64, 64]` in -1 to 1, the pictures whose latents the UNet will see.
    """
    latents = encode(vae, pictures)
    mean = latents.mean(dim=(0, 2, 3))
    spread = latents.std(dim=(0, 2, 3))
    common = spread.square().mean().sqrt()
    gain = common / spread
    into, out = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    # z' = (z - mean) * gain; the posterior's log-variance grows by 2 log(gain)
    into.weight[:channels] *= gain[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) * gain
    into.bias[channels:] += 2.0 * gain.log()
    # z = z' / gain + mean, put into the convolution that reads the latents
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight /= gain[None, :, None, None]
    vae.register_to_config(scaling_factor=float(1.0 / common))


def _slopes(error: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels of `error`."""
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return across + down


def _bytes(pictures: np.ndarray) -> Tensor:
    """Turn `[N, H, W, C]` in 0 to 1 into bytes `[N, C, H, W]`."""
    tensor = torch.from_numpy((pictures.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    return tensor.permute(0, 3, 1, 2).contiguous()


def reconstruction_error(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Return the mean absolute error of copies, in units of the 0 to 1 range."""
    with torch.no_grad():
        copies = [vae.decode(encode(vae, part)).sample for part in pictures.split(64)]
    return float(functional.l1_loss(torch.cat(copies), pictures)) / 2.0
