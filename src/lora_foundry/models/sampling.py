"""Drawing pictures with a denoiser: deterministic, and the same whatever else is drawn beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from lora_foundry.config.streams import stream_key
from lora_foundry.models.protocol import Conditioning, Decoder, Denoiser
from lora_foundry.models.samplers import Predict, sampler_choice
from lora_foundry.objectives.alpha_bar import wide
from lora_foundry.objectives.noise import sample_noise

Denoise = Callable[[Tensor, Tensor, Conditioning], Tensor]
Around = Callable[[Sequence[int]], AbstractContextManager[object]]
MAX_ROWS = 64
_CELLS = 2**16  # of latents in one forward: 16 rows of a 512-pixel picture at 8 pixels a cell
_PIXELS = 2**18  # decoded at once: a picture of 512 pixels, for which a VAE in fp32 takes 1.6 GiB beside its weights
_PICTURES = 2  # decoded at once, at most


def rows_of_a_forward(cells: int) -> int:
    """Most rows of one forward without gradients, for latents of ``cells`` cells (h x w): 1 to 64.

    So a large picture takes no more memory to draw or to validate than a small one.
    """
    return max(1, min(MAX_ROWS, _CELLS // max(1, cells)))


def pictures_at_once(size: int) -> int:
    """Most pictures of ``size`` pixels a side that are decoded together: one or two."""
    return max(1, min(_PICTURES, _PIXELS // (size * size)))


def _nothing_around(_rows: Sequence[int]) -> AbstractContextManager[object]:
    return nullcontext()


@torch.no_grad()
def draw(  # noqa: PLR0913  # each is one thing that a picture depends on
    denoiser: Denoiser,
    *,
    conditioning: Conditioning,
    empty_conditioning: Conditioning,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    side: int,
    sampler: str | None = None,
    around: Around = _nothing_around,
    denoise: Denoise | None = None,
    max_rows: int | None = None,
) -> Tensor:
    """Draw the latents of one picture a row; :func:`decoded` makes pictures of them.

    With guidance other than 1 each picture takes two rows of a forward (Ho & Salimans 2022, Classifier-Free
    Diffusion Guidance, eq. 6), in blocks: **all unconditional rows first, then all conditional ones**, each block in
    the pictures' order. ``around(rows)`` is entered once for every group of pictures that is drawn together and says
    which picture each row of its forwards belongs to: ``[0, 1, 2, 0, 1, 2]`` for three pictures with guidance.

    Args:
        denoiser: The base.
        conditioning: One row a picture.
        empty_conditioning: One row, of the empty caption; unused at guidance 1.
        seeds: Each picture's seed; its first noise depends on nothing else.
        steps: Denoising steps.
        guidance: Scale; 1 turns it off.
        side: Of the latents, cells.
        sampler: A name in :mod:`lora_foundry.models.samplers`; None takes the one that suits the base's noise process.
        around: Context of a group's forwards, e.g. which member's adapter each row has.
        denoise: What computes a forward; by default ``denoiser.denoise``.
        max_rows: Most rows of one forward; by default :func:`rows_of_a_forward`.

    Returns:
        Latents [N, C, side, side], on the denoiser's device.

    Raises:
        ValueError: When the numbers of seeds and rows differ, or there is nothing to do.
    """
    _check(conditioning, empty_conditioning, seeds, steps, side)
    walk = sampler_choice(sampler or denoiser.process.sampler).walk
    doubled = guidance != 1
    group = max(1, (max_rows or rows_of_a_forward(side * side)) // (2 if doubled else 1))
    drawn: list[Tensor] = []
    for start in range(0, len(seeds), group):
        chosen = range(start, min(start + group, len(seeds)))
        told = {name: rows[chosen.start : chosen.stop] for name, rows in conditioning.items()}
        if doubled:
            told = {n: torch.cat([empty_conditioning[n].to(r).expand_as(r), r]) for n, r in told.items()}
        noise = first_noise([seeds[i] for i in chosen], denoiser, side)
        with around([*chosen, *chosen] if doubled else list(chosen)):
            predict = _guided(denoise or denoiser.denoise, denoiser, told, guidance)
            drawn.append(walk(predict, noise, denoiser.scheduler_config, steps))
    return torch.cat(drawn) if drawn else torch.empty(0, denoiser.latent_channels, side, side, device=denoiser.device)


def decoded(decoder: Decoder, latents: Tensor, at_once: int) -> Tensor:
    """Pictures [N, H, W, 3], uint8 on the CPU, of latents [N, C, h, w], so many at once."""
    side = latents.shape[-1] * decoder.pixels_per_cell
    pictures = [decoder.decode(part) for part in latents.split(at_once)] if len(latents) else []
    return torch.cat(pictures) if pictures else torch.empty(0, side, side, 3, dtype=torch.uint8)


def first_noise(seeds: Sequence[int], denoiser: Denoiser, side: int) -> Tensor:
    """Pure noise that pictures start from, [N, C, side, side]: a function of each row's seed alone."""
    shape = (denoiser.latent_channels, side, side)
    rows = [sample_noise(shape, stream_key(seed, "picture"), wide(denoiser.dtype)) for seed in seeds]
    return torch.stack(rows).to(denoiser.device)


def _guided(denoise: Denoise, denoiser: Denoiser, told: Conditioning, guidance: float) -> Predict:
    """Asks the base for all rows at once: without the caption and with it, where there is guidance."""
    told = {name: rows.to(denoiser.device) for name, rows in told.items()}

    def predict(latents: Tensor, level: float) -> Tensor:
        rows = latents if guidance == 1 else torch.cat([latents, latents])
        prediction = denoise(rows, torch.full((len(rows),), level), told).to(latents.dtype)
        if guidance == 1:
            return prediction
        empty, full = prediction.chunk(2)
        return empty + guidance * (full - empty)

    return predict


def _check(conditioning: Conditioning, empty: Conditioning, seeds: Sequence[int], steps: int, side: int) -> None:
    counts = {name: len(rows) for name, rows in conditioning.items()}
    if any(count != len(seeds) for count in counts.values()):
        msg = f"drawing: got {len(seeds)} seeds and conditioning of {counts} rows, allowed is one row a seed"
        raise ValueError(msg)
    if any(len(rows) != 1 for rows in empty.values()) or empty.keys() != conditioning.keys():
        msg = f"drawing: the empty conditioning needs one row of each of {sorted(conditioning)}"
        raise ValueError(msg)
    if side < 1 or steps < 1:
        msg = f"drawing: got {side} cells a side and {steps} steps, allowed is at least 1 of each"
        raise ValueError(msg)
