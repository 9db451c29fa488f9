"""What the base itself makes of captions that nobody trains: the pictures on which drift is measured."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING

from lora_foundry.data.cache import device_name, digest_of, key_of
from lora_foundry.models.sampling import draw, rows_of_a_forward

if TYPE_CHECKING:
    from torch import Tensor

    from lora_foundry.models.protocol import Conditioning, Denoiser
    from lora_foundry.tasks.denoising.material import Prompts
    from lora_foundry.tasks.protocol import Ground, Trainee

_LOG = logging.getLogger(__name__)
_STEPS = 20


def base_latents(pack: Ground, denoiser: Denoiser, member: Trainee, prompts: Prompts, side: int) -> Tensor:
    """Latents ``[N, C, side, side]`` on the CPU of one picture a prompt, as the base draws it, from the cache or now.

    They are drawn without guidance, and so stand for what the base has learned of each caption: the class images of
    Ruiz et al. 2023 (DreamBooth), section 3.2, which a fine-tuned base is kept to.

    Args:
        pack: Whose base draws.
        denoiser: The base.
        member: Whose cache is used.
        prompts: The captions.
        side: Of the latents, cells.
    """
    most = rows_of_a_forward(side * side)
    if member.cache is None:
        return _drawn(pack, denoiser, prompts, side, most)[0]
    key = key_of(
        {
            "kind": "base latents",
            "base": member.base_hash,
            "conditioning": digest_of(prompts.conditioning),
            "steps": _STEPS,
            "side": side,
            "rows": most,
            "scheduler": dict(denoiser.scheduler_config),
            **pack.dtypes.decides(pack.device),
            "device": device_name(pack.device),
            "versions": [version(name) for name in ("torch", "diffusers")],
        }
    )
    kept = member.cache.get(key)
    if kept is not None:
        return kept["latents"]
    latents, rows = _drawn(pack, denoiser, prompts, side, most)
    if rows == most and bool(latents.isfinite().all()):  # with fewer, kernels round differently
        try:
            member.cache.put(key, {"latents": latents})
        except OSError as error:  # nothing is lost but time: the next pack draws them again
            _LOG.warning("what the base makes of validation.drift_prompts was not kept: %s", error)
    return latents


def _drawn(pack: Ground, denoiser: Denoiser, prompts: Prompts, side: int, most: int) -> tuple[Tensor, int]:
    """The latents, and the rows that a forward took."""

    def denoise(noisy: Tensor, levels: Tensor, told: Conditioning) -> Tensor:
        pack.end_if_stopped()
        return denoiser.denoise(noisy, levels, told)

    def with_most(rows: int) -> Tensor:
        with pack.wary(unless=rows == 1):
            return draw(
                denoiser,
                conditioning=prompts.conditioning,
                empty_conditioning=prompts.empty,
                seeds=range(len(prompts.texts)),
                steps=_STEPS,
                guidance=1.0,
                side=side,
                denoise=denoise,
                max_rows=rows,
            )

    latents, rows = pack.in_fewer_rows(with_most, most)
    return latents.cpu(), rows
