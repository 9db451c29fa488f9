"""Train the UNet and the text encoder together on the latents of the subjects, held in memory."""

import random

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from recipes.tiny_sd.loop import indices
from recipes.tiny_sd.sizes import new_scheduler, new_text_encoder, new_unet
from recipes.tiny_sd.subjects import Subject, draw_caption

BATCH = 32
SEED = 23
EMPTY_PROMPT_SHARE = 0.1
FAVOUR = 8


class DiffusionTrainee:
    """The UNet, the text encoder and what they learn from.

    Drawings are not mirrored: at some hundred epochs the base is meant to know each subject by heart, and a
    mirrored twin would only make it unsure of the side.

    Args:
        subjects: What the latents show.
        latents: `[N, 4, 16, 16]`, scaled to unit variance.
        tokenizer: Tokenizer of the captions.
        unet: UNet to train, by default a new one.
        batch: Samples a step.
        favoured: Keys of subjects shown `FAVOUR` times as often as the others.
    """

    def __init__(
        self,
        subjects: list[Subject],
        latents: Tensor,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel | None = None,
        batch: int = BATCH,
        favoured: frozenset[str] = frozenset(),
    ) -> None:
        torch.manual_seed(SEED)
        self.subjects = subjects
        self.latents = latents
        self.batch = batch
        self.shown = [
            index for index, subject in enumerate(subjects) for _ in range(FAVOUR if subject.key in favoured else 1)
        ]
        self.tokenizer = tokenizer
        self.unet = new_unet() if unet is None else unet
        # torch's fused attention has a slow bf16 backward on the CPU: 0.79 s of CPU a step with it, 0.63 s without
        self.unet.set_attn_processor(AttnProcessor())
        self.text_encoder: CLIPTextModel = new_text_encoder(tokenizer)
        self.modules = nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})
        self.alpha_bars = new_scheduler().alphas_cumprod

    def loss(self, step: int) -> Tensor:
        """Return the mean squared error of the predicted velocity of one batch.

        The velocity is sqrt(a) * noise - sqrt(1 - a) * latent (Salimans and Ho 2022,
        https://arxiv.org/abs/2202.00512, appendix D).
        """
        stream = torch.Generator().manual_seed(SEED * 1_000_003 + step)
        chosen = [self.shown[place] for place in indices(step, self.batch, len(self.shown), SEED)]
        clean = self.latents[chosen]
        noise = torch.randn(clean.shape, generator=stream)
        timestep = spread_timesteps(self.batch, len(self.alpha_bars), stream)
        alpha_bar = self.alpha_bars[timestep][:, None, None, None]
        noisy = alpha_bar.sqrt() * clean + (1.0 - alpha_bar).sqrt() * noise
        velocity = alpha_bar.sqrt() * noise - (1.0 - alpha_bar).sqrt() * clean
        with torch.autocast("cpu", torch.bfloat16):
            context = self.text_encoder(self._prompts(step, chosen))[0]
            predicted = self.unet(noisy, timestep, context).sample
        return functional.mse_loss(predicted.float(), velocity)

    def _prompts(self, step: int, chosen: list[int]) -> Tensor:
        """Return the token ids `[B, 32]` of a step's captions, some of them empty."""
        stream = random.Random(SEED * 1_000_003 + step)  # noqa: S311 - not for secrets
        captions = [
            "" if stream.random() < EMPTY_PROMPT_SHARE else draw_caption(self.subjects[index], stream)
            for index in chosen
        ]
        return self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def spread_timesteps(batch: int, count: int, stream: torch.Generator) -> Tensor:
    """Draw one timestep from each of `batch` equal parts of a distribution that favours much noise.

    One draw a part makes the loss steadier. The density rises from 0.4 at no noise to 1.6 at pure noise: there the
    caption decides what is drawn, and there the loss was still highest (0.62 at the last timestep, 0.22 in the middle,
    after 1,850 steps); what the first timesteps decide is hardly seen at 64 pixels.

    Args:
        batch: Timesteps to draw.
        count: Timesteps of the schedule.
        stream: Where the draws come from.

    Returns:
        `[B]`, from 0 to `count - 1`.
    """
    share = (torch.arange(batch) + torch.rand(batch, generator=stream)) / batch
    place = ((0.16 + 2.4 * share).sqrt() - 0.4) / 1.2  # the inverse of 0.4 x + 0.6 x^2
    return (place * count).long().clamp(max=count - 1)
