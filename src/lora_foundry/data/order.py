"""Which image, variant and caption a sample's ordinal stands for: a stateless function of the job's seed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch

from lora_foundry.config.schema import DataConfig
from lora_foundry.config.streams import stream_key

_KEYS = 2**63
_EPOCHS_KEPT = 2  # a micro-batch can straddle two epochs


class Draw(NamedTuple):
    """One sample.

    Attributes:
        image: Row of the latents and of the records.
        variant: Column of the latents, an index into :func:`lora_foundry.data.transform.variants`.
        drop_caption: Whether the empty caption takes the place of the image's own.
        epoch: How many whole passes over the images, each as often as it repeats, lie behind it.
    """

    image: int
    variant: int
    drop_caption: bool
    epoch: int


class SampleOrder:
    """The endless order of a job's samples, by ordinal.

    Ordinal ``o`` is place ``o % n`` of the permutation of epoch ``o // n``, with n the images of an epoch: each
    as often as it repeats. No draw depends on another, so a checkpoint holds the next ordinal and nothing else.
    """

    def __init__(
        self,
        *,
        seed: int,
        n_images: int,
        flip: bool = False,
        crops: int = 1,
        caption_dropout: float = 0.0,
        repeats: Sequence[int] | None = None,
    ) -> None:
        """Fix the streams.

        Args:
            seed: The job's seed.
            n_images: Images of the training set, at least 1.
            flip: Whether half of the samples are mirrored.
            crops: Places at which an image is cropped.
            caption_dropout: Probability of an empty caption.
            repeats: How often each image counts in an epoch; None is once each.

        Raises:
            ValueError: When there is no image or no crop, or an image repeats less than once.
        """
        if n_images < 1 or crops < 1:
            raise ValueError(f"got {n_images} images and {crops} crops, allowed is at least 1 of each")
        times = [1] * n_images if repeats is None else list(repeats)
        if len(times) != n_images or min(times) < 1:
            raise ValueError(f"got repeats {times} for {n_images} images, allowed is at least 1 for each")
        self.seed = seed
        self.n_images = n_images
        self._images = [image for image, count in enumerate(times) for _ in range(count)]
        self._flip = flip
        self._crops = crops
        self._dropped_below = round(caption_dropout * _KEYS)
        self._permutations: OrderedDict[int, list[int]] = OrderedDict()

    @classmethod
    def of(cls, data: DataConfig, *, seed: int, n_images: int, repeats: Sequence[int] | None = None) -> SampleOrder:
        """The order of ``n_images`` checked images under ``data``'s settings."""
        return cls(
            seed=seed,
            n_images=n_images,
            flip=data.flip,
            crops=data.crop_variants if data.crop == "random" else 1,
            caption_dropout=data.caption_dropout,
            repeats=repeats,
        )

    @property
    def epoch(self) -> int:
        """Samples of a pass over the images."""
        return len(self._images)

    def draw(self, ordinal: int) -> Draw:
        """The sample of ``ordinal`` (0 is the job's first).

        Raises:
            ValueError: When the ordinal is negative.
        """
        if ordinal < 0:
            raise ValueError(f"got ordinal {ordinal}, allowed is 0 or more")
        epoch, place = divmod(ordinal, self.epoch)
        variant = stream_key(self.seed, "crop", ordinal) % self._crops if self._crops > 1 else 0
        if self._flip:
            variant = variant * 2 + stream_key(self.seed, "flip", ordinal) % 2
        drop = self._dropped_below > 0 and stream_key(self.seed, "caption", ordinal) < self._dropped_below
        return Draw(self._images[self._permutation(epoch)[place]], variant, drop, epoch)

    def _permutation(self, epoch: int) -> list[int]:
        known = self._permutations.get(epoch)
        if known is None:
            generator = torch.Generator().manual_seed(stream_key(self.seed, "shuffle", epoch))
            known = torch.randperm(self.epoch, generator=generator).tolist()
            self._permutations[epoch] = known
            if len(self._permutations) > _EPOCHS_KEPT:
                self._permutations.popitem(last=False)
        return known
