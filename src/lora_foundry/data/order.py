"""Which image, variant and caption a sample's ordinal stands for: a stateless function of the job's seed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import cycle
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

    Images that are left out leave gaps, which others fill, in an order of each epoch's own. All other places have the
    images that they have without gaps, so two jobs that leave out different images differ in nothing else.
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
        gaps: Sequence[int] = (),
    ) -> None:
        """Fix the streams.

        Args:
            seed: The job's seed.
            n_images: Images of the training set, at least 1.
            flip: Whether half of the samples are mirrored.
            crops: Places at which an image is cropped.
            caption_dropout: Probability of an empty caption.
            repeats: How often each image counts in an epoch; None is once each.
            gaps: Places of an unshuffled epoch, gaps counted, whose images are left out.

        Raises:
            ValueError: When there is no image or no crop, an image repeats less than once, or a gap lies outside.
        """
        if n_images < 1 or crops < 1:
            raise ValueError(f"got {n_images} images and {crops} crops, allowed is at least 1 of each")
        times = [1] * n_images if repeats is None else list(repeats)
        if len(times) != n_images or min(times) < 1:
            raise ValueError(f"got repeats {times} for {n_images} images, allowed is at least 1 for each")
        self.seed = seed
        self.n_images = n_images
        self._kept = [image for image, count in enumerate(times) for _ in range(count)]
        self._images = _with_gaps(self._kept, frozenset(gaps))
        self._flip = flip
        self._crops = crops
        self._dropped_below = round(caption_dropout * _KEYS)
        self._epochs: OrderedDict[int, list[int]] = OrderedDict()

    @classmethod
    def of(
        cls,
        data: DataConfig,
        *,
        seed: int,
        n_images: int,
        repeats: Sequence[int] | None = None,
        gaps: Sequence[int] = (),
    ) -> SampleOrder:
        """The order of ``n_images`` checked images under ``data``'s settings."""
        return cls(
            seed=seed,
            n_images=n_images,
            flip=data.flip,
            crops=data.crop_variants if data.crop == "random" else 1,
            caption_dropout=data.caption_dropout,
            repeats=repeats,
            gaps=gaps,
        )

    @property
    def epoch(self) -> int:
        """Samples of a pass over the images, those in place of images that are left out among them."""
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
        return Draw(self._epoch(epoch)[place], variant, drop, epoch)

    def _epoch(self, epoch: int) -> list[int]:
        """The images of an epoch in their order."""
        known = self._epochs.get(epoch)
        if known is None:
            shuffled = [self._images[place] for place in self._shuffled("shuffle", epoch, self.epoch)]
            known = self._filled(shuffled, epoch)
            self._epochs[epoch] = known
            if len(self._epochs) > _EPOCHS_KEPT:
                self._epochs.popitem(last=False)
        return known

    def _filled(self, shuffled: list[int | None], epoch: int) -> list[int]:
        """With an image in each gap: all others once, or as often as they repeat, before one comes again."""
        if len(self._kept) == len(shuffled):
            return [image for image in shuffled if image is not None]
        others = cycle(self._kept[place] for place in self._shuffled("instead", epoch, len(self._kept)))
        return [next(others) if image is None else image for image in shuffled]

    def _shuffled(self, purpose: str, epoch: int, count: int) -> list[int]:
        generator = torch.Generator().manual_seed(stream_key(self.seed, purpose, epoch))
        order: list[int] = torch.randperm(count, generator=generator).tolist()
        return order


def _with_gaps(kept: Sequence[int], gaps: frozenset[int]) -> list[int | None]:
    images = iter(kept)
    places = len(kept) + len(gaps)
    if gaps and not 0 <= min(gaps) <= max(gaps) < places:
        raise ValueError(f"got gaps {sorted(gaps)} in {places} places, allowed is 0 to {places - 1}")
    return [None if place in gaps else next(images) for place in range(places)]
