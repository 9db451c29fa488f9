"""Ways from noise to a picture, a file each; what such a file tells is :class:`SamplerChoice`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lora_foundry.config.choices import SAMPLERS, Choice
from lora_foundry.config.families import family_choice

if TYPE_CHECKING:
    from torch import Tensor

Predict = Callable[["Tensor", float], "Tensor"]
"""Noisy latents [N, C, h, w] and the level that all of them are at, to the base's prediction, guidance within."""


class SamplerChoice(Choice, ABC):
    """Walks back from noise to latents (``sample.sampler``); it draws nothing at random, so a picture can be repeated.

    Attributes:
        undoes: Kinds of noise process that it walks back, as :attr:`NoiseProcess.kind` has them.
    """

    undoes: ClassVar[tuple[str, ...]]

    def misfits(self, groups: Mapping[str, Any], /) -> list[str]:
        """A base whose noise it does not undo."""
        if "model" not in groups or not groups["sample"].enabled:
            return []
        family, sampler = groups["model"].family, groups["sample"].sampler
        noise = family_choice(family).noise
        if noise is None or noise in self.undoes:
            return []
        fit = [name for name in SAMPLERS.names() if noise in sampler_choice(name).undoes]
        return [
            f"sample.sampler: got {sampler}, which does not undo the noise of model.family={family}; allowed is "
            f"one of {', '.join(fit)}, or null for the base's own"
        ]

    @abstractmethod
    def walk(self, predict: Predict, latents: Tensor, scheduler: Mapping[str, Any], steps: int) -> Tensor:
        """The latents of pictures.

        Args:
            predict: Asks the base; at most ``steps`` times, so that what a picture costs is known.
            latents: Standard normal noise, [N, C, h, w].
            scheduler: What the base's own scheduler says of its noise (``Denoiser.scheduler_config``).
            steps: How many steps the walk has.

        Returns:
            [N, C, h, w], as the decoder takes them.
        """


def sampler_choice(name: str) -> SamplerChoice:
    """The sampler of that name."""
    return SAMPLERS.load(name, SamplerChoice)
