"""From checked images to material: latents and text states, from the cache or computed now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lora_foundry.config.paths import locate
from lora_foundry.config.warned import Warned
from lora_foundry.data.cache import TensorCache
from lora_foundry.data.checks import CheckedData, ReadData, check_data, read_data, validation_view
from lora_foundry.data.encoding import EncodedData, encode_captions, encode_data, encode_images
from lora_foundry.data.inventory import Inventory, take_inventory
from lora_foundry.models.likeness import Likeness
from lora_foundry.models.opening import open_base
from lora_foundry.tasks.denoising.material import Material, Prompts
from lora_foundry.tasks.denoising.prompts import prompt_warnings, prompts_of
from lora_foundry.tasks.denoising.task import ENCODED_IN
from lora_foundry.tasks.protocol import Made, Patience

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_foundry.config import JobConfig
    from lora_foundry.config.schema import DataConfig
    from lora_foundry.data.records import Record
    from lora_foundry.models.protocol import BaseFiles, CaptionEncoder, ImageEncoder

_BLANK = torch.zeros(64, 64, 3, dtype=torch.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """What jobs with the same data and base share in memory."""

    train: EncodedData
    validation: EncodedData
    inventory: Inventory


class DenoisingPreparation:
    """Implements :class:`lora_foundry.tasks.protocol.Preparation` for captioned images."""

    def __init__(self) -> None:
        self._shared: dict[object, _Shared] = {}
        self._encoders: set[str] = set()  # folders of them that were seen to work
        self._read: dict[object, ReadData] = {}

    def key(self, config: JobConfig) -> object:
        """What decides images and captions, and the base, whose tokenizer looks at the captions."""
        return (data_key(config.data), config.model)

    def check(self, config: JobConfig, files: BaseFiles) -> CheckedData:
        """See :func:`lora_foundry.data.checks.check_data`; images are read once for jobs that leave out others."""
        whole = data_key(dataclasses.replace(config.data, without=()))
        if whole not in self._read:
            self._read[whole] = read_data(config.data)
        return check_data(
            config.data, count_tokens=files.count_tokens, max_tokens=files.max_tokens, read=self._read[whole]
        )

    def warnings(self, config: JobConfig, files: BaseFiles, data: CheckedData) -> list[Warned]:
        """Of the prompts that will be drawn."""
        captions = [record.caption for record in data.val]
        unjudged = _unjudged(config, len(data.val))
        return [*unjudged, *prompt_warnings(config, captions, files.count_tokens, files.max_tokens)]

    def make(  # what it is made of
        self,
        config: JobConfig,
        files: BaseFiles,
        data: CheckedData,
        *,
        device: torch.device,
        cache: TensorCache,
        patience: Patience,
        log: Callable[[str], None],
    ) -> Made:
        """Latents and text states of the images and prompts."""
        if config.validation.likeness is not None and config.validation.likeness not in self._encoders:
            Likeness(locate(config.validation.likeness), torch.device("cpu")).embed([_BLANK])
            self._encoders.add(config.validation.likeness)
        images = patience(files.image_encoder(dtype=ENCODED_IN, device=device), device)
        captions = patience(files.caption_encoder(dtype=ENCODED_IN, device=device), device)
        key = (self.key(config), data.data_hash)
        try:
            if key not in self._shared:
                self._shared[key] = _encode(config.data, data, images, captions, cache, log)
            drawn = prompts_of(config, [record.caption for record in data.val]) if config.sample.enabled else ()
            prompts = _prompts(drawn, captions, cache, log)
            unrelated = _prompts(config.validation.drift_prompts, captions, cache, log)
        finally:
            images.close()
            captions.close()
        shared = self._shared[key]
        return Made(
            material=Material(train=shared.train, validation=shared.validation, prompts=prompts, unrelated=unrelated),
            repeats=[record.repeats for record in shared.train.records],
            gaps=data.gaps,
            inventory=shared.inventory,
        )


def _encode(  # what it is made of
    config: DataConfig,
    data: CheckedData,
    images: ImageEncoder,
    captions: CaptionEncoder,
    cache: TensorCache,
    log: Callable[[str], None],
) -> _Shared:
    held_out = validation_view(config)
    return _Shared(
        train=encode_data(data.train, config, images=images, captions=captions, cache=cache, dtype=ENCODED_IN, log=log),
        validation=encode_data(
            data.val, held_out, images=images, captions=captions, cache=cache, dtype=ENCODED_IN, log=log
        ),
        inventory=take_inventory(config, [*data.train, *data.val]),
    )


def _prompts(
    texts: tuple[str, ...], captions: CaptionEncoder, cache: TensorCache, log: Callable[[str], None]
) -> Prompts | None:
    if not texts:
        return None
    states = encode_captions([*texts, ""], captions=captions, cache=cache, dtype=ENCODED_IN, log=log)
    return Prompts(
        texts=texts,
        conditioning={name: rows[:-1] for name, rows in states.items()},
        empty={name: rows[-1:] for name, rows in states.items()},
    )


def _unjudged(config: JobConfig, held_out: int) -> list[Warned]:
    """Cross-validation is over all images, unless that is too dear."""
    folds, most = config.data.folds, config.validation.max_images
    if folds is None or config.data.fold == "all" or held_out <= most:
        return []
    text = (
        f"data.folds={folds}: a fold holds out more images than the {most} that it is judged on "
        "(validation.max_images), so that some are judged by none"
    )
    return [Warned(topic="folds", text=text)]


def data_key(data: DataConfig) -> tuple[object, ...]:
    """What decides the encoded tensors; batch size and caption dropout do not."""
    return (
        str(locate(data.path)),
        data.val_path,
        data.val_fraction,
        data.folds,
        data.fold,
        data.resolution,
        data.crop,
        data.crop_variants,
        data.flip,
        data.background,
        data.caption_prefix,
        data.captions,
        data.repeats,
        data.follow_links,
        data.without,
        data.on_bad,
        data.cache_dir,
    )


def latents_of(config: JobConfig, records: Sequence[Record]) -> Any:  # noqa: ANN401  # numpy's, which types elsewhere
    """The images as the base's VAE sees them, unmirrored and cropped in the middle: ``[n_images, C * h * w]``.

    Encoded on the CPU, or taken from the cache, where a training finds them again.

    Raises:
        lora_foundry.models.protocol.BaseError: When the base is not complete.
        lora_foundry.data.records.DataError: When an image cannot be encoded.
    """
    encoder = open_base(config.model).image_encoder(dtype=ENCODED_IN, device=torch.device("cpu"))
    cache = TensorCache(Path(config.data.cache_dir))
    try:
        latents = encode_images(records, validation_view(config.data), images=encoder, cache=cache, dtype=ENCODED_IN)
    finally:
        encoder.close()
    return latents.flatten(1).numpy()


open_preparation = DenoisingPreparation
