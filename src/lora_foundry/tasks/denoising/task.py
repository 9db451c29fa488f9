"""Denoising latents, as a task."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from lora_foundry.config.streams import stream_key
from lora_foundry.data.kohya import folder_of
from lora_foundry.lora.formats.metadata import FileMetadata
from lora_foundry.models.sampling import rows_of_a_forward
from lora_foundry.objectives.losses import mse_per_sample
from lora_foundry.objectives.noise import noise_offset, sample_noise
from lora_foundry.objectives.process import denoised
from lora_foundry.tasks.denoising.files import write_files
from lora_foundry.tasks.denoising.material import material_of, objective_of
from lora_foundry.tasks.denoising.pictures import Painter
from lora_foundry.tasks.denoising.unrelated import base_latents
from lora_foundry.tasks.protocol import FixedRows, Inputs, Judged, StepRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lora_foundry.config.schema_denoising import DenoisingModel
    from lora_foundry.config.schema_results import ValidationConfig
    from lora_foundry.data.encoding import EncodedData
    from lora_foundry.lora.formats.adapter import Adapter
    from lora_foundry.models.protocol import BaseFiles, BaseSizes, Decoder, Denoiser
    from lora_foundry.objectives.process import NoiseProcess
    from lora_foundry.objectives.timesteps import Band
    from lora_foundry.tasks.protocol import Files, Ground, Trainee

# The inputs besides the denoiser's own conditioning. Their names are in the keys of base losses that are kept.
_LATENTS, _NOISE, _LEVELS = "latents", "noise", "timesteps"
# Latents and text states are made and kept in fp32 whatever the base trains in: they are made once, the fp16 VAEs of
# this field overflow, and jobs of different precision then share one cache.
ENCODED_IN = DECODED_IN = torch.float32
_FIXED_SEED = 0  # not the job's: every job of every sweep is judged on the same noise
_PROBE_ROWS = 2


class Denoising:
    """Implements :class:`lora_foundry.tasks.protocol.Task` for any denoiser.

    Args:
        denoiser: The base; adapters are put into it.
        decoder: Its decoder; None for who draws nothing.
    """

    def __init__(self, denoiser: Denoiser, decoder: Decoder | None = None) -> None:
        self.denoiser = denoiser
        self._decoder = decoder

    @property
    def base(self) -> Denoiser:
        """The denoiser."""
        return self.denoiser

    def rows(self, member: Trainee, ordinals: range, dtype: torch.dtype) -> StepRows:
        """Draw image, flip, crop, dropped caption, noise and its level of each sample."""
        data, seed, process = material_of(member).train, member.config.seed, self.denoiser.process
        draws = [member.order.draw(ordinal) for ordinal in ordinals]
        images, variants = [draw.image for draw in draws], [draw.variant for draw in draws]
        texts = [-1 if draw.drop_caption else int(data.caption_index[draw.image]) for draw in draws]
        levels = torch.tensor([process.level(stream_key(seed, "timestep", ordinal)) for ordinal in ordinals])
        inputs = {
            _LATENTS: data.latents[images, variants].to(dtype),
            _NOISE: torch.stack([_noise(member, ordinal, dtype) for ordinal in ordinals]),
            _LEVELS: levels,
            **{name: states[texts].to(dtype) for name, states in data.captions.items()},
        }
        gamma = objective_of(member).snr_gamma
        weight = torch.ones(len(ordinals)) if gamma is None else process.weight(levels, gamma)
        return StepRows(inputs=inputs, weight=weight.to(dtype))

    def losses(self, inputs: Inputs) -> Tensor:
        """See :func:`lora_foundry.objectives.losses.mse_per_sample`; ``inputs`` come to the base's device."""
        return mse_per_sample(*self._denoised(inputs))

    def judged(self, inputs: Inputs) -> Judged:
        """The same with what was compared."""
        prediction, target = self._denoised(inputs)
        return Judged(losses=mse_per_sample(prediction, target), prediction=prediction, target=target)

    def _denoised(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        denoiser, device, dtype = self.denoiser, self.denoiser.device, self.denoiser.dtype
        clean, noise, levels = (inputs[name].to(device, non_blocking=True) for name in (_LATENTS, _NOISE, _LEVELS))
        told = {name: states.to(device, dtype, non_blocking=True) for name, states in _conditioning(inputs).items()}

        def denoise(noisy: Tensor, at: Tensor) -> Tensor:
            return denoiser.denoise(noisy, at, told)

        return denoised(denoiser.process, denoise, clean, noise, levels, dtype=dtype)

    def whole(self, member: Trainee) -> float:
        """The samples of one optimizer step, however they are weighted."""
        return member.config.data.batch_size * member.config.trainer.accumulate

    def samples(self, member: Trainee) -> int:
        """Training images."""
        return len(material_of(member).train.records)

    def held_out(self, member: Trainee) -> EncodedData:
        """The held-out images."""
        return material_of(member).validation

    def fixed_rows(self, member: Trainee, dtype: torch.dtype) -> FixedRows:
        """See :func:`fixed_rows`."""
        return fixed_rows(self.held_out(member), member.config.validation, self.denoiser.process, dtype)

    def check_rows(self, member: Trainee, dtype: torch.dtype) -> FixedRows | None:
        """The next held-out images by content, with noise of their own."""
        config, data = member.config.validation, self.held_out(member)
        left = min(config.check_images, len(data.records) - config.max_images)
        if left < 1 or data.records == material_of(member).train.records:
            return None
        images = slice(config.max_images, config.max_images + left)
        return _rows_of(data, images, "check", config, self.denoiser.process, dtype)

    def drift_rows(self, member: Trainee, pack: Ground, dtype: torch.dtype) -> FixedRows | None:
        """The base's own pictures of captions that have nothing to do with the data, at the levels of a validation."""
        prompts = material_of(member).unrelated
        if prompts is None:
            return None
        side = material_of(member).validation.latents.shape[-1]
        clean = base_latents(pack, self.denoiser, member, prompts, side).to(dtype)
        names = [("drift", text) for text in prompts.texts]
        return _at_all_levels(clean, prompts.conditioning, names, member.config.validation, self.denoiser.process)

    def decides(self) -> Mapping[str, object]:
        """The base's noise schedule."""
        return {"scheduler": dict(self.denoiser.scheduler_config)}

    def shows(self, member: Trainee) -> bool:
        """Whether it has prompts."""
        return material_of(member).prompts is not None

    def showing(self, pack: Ground) -> Painter:
        """Draws pictures.

        Raises:
            ValueError: When there is no decoder to draw with.
        """
        if self._decoder is None:
            msg = "drawing pictures: got a denoiser without a decoder, needed is one that was loaded with it"
            raise ValueError(msg)
        return Painter(pack, self.denoiser, self._decoder)

    def probe(self, member: Trainee, dtype: torch.dtype) -> Inputs:
        """Noise at two levels, told the first caption and the empty one."""
        data = material_of(member).train
        noise = [sample_noise(data.latents.shape[2:], stream_key(0, "probe", i), dtype) for i in range(_PROBE_ROWS)]
        return {
            _NOISE: torch.stack(noise),
            _LEVELS: torch.tensor(self.denoiser.process.strata(_PROBE_ROWS)),
            **{name: values[[0, -1]] for name, values in data.captions.items()},
        }

    def outputs(self, inputs: Inputs) -> Tensor:
        """The prediction for the noise."""
        return self.denoiser.denoise(inputs[_NOISE], inputs[_LEVELS], _conditioning(inputs))

    def file_metadata(self, member: Trainee, *, started_at: float) -> FileMetadata:
        """Which base, which images and captions."""
        config, records = member.config, material_of(member).train.records
        model = cast("DenoisingModel", config.model)
        folders = []  # for each image the name that its folder has in kohya's header, and how often it repeats
        for record in records:
            folder = folder_of("", record.image) if record.repeats > 1 else None
            folders.append((config.data.name if folder is None else folder.name, record.repeats))
        return FileMetadata(
            base_version=model.version,
            base_name=config.model.name,
            prediction_type=self.denoiser.process.predicts,
            resolution=config.data.resolution,
            train_images=sum(record.repeats for record in records),
            started_at=started_at,
            dataset_dirs=dict(Counter(name for name, _ in folders)),
            repeats=dict(folders),
            tag_frequency={config.data.name: dict(Counter(record.caption for record in records))},
            trigger_phrase=config.data.caption_prefix.strip(),
        )

    def write(self, folder: Path, stem: str, adapter: Adapter, meta: FileMetadata, dtype: torch.dtype) -> Files:
        """See :func:`lora_foundry.tasks.denoising.files.write_files`."""
        return write_files(folder, stem, adapter, meta, dtype)


def open_task(files: BaseFiles, *, dtype: torch.dtype, device: torch.device) -> Denoising:
    """See :func:`lora_foundry.tasks.opening.open_task`; the decoder's weights are read at the first picture."""
    denoiser = files.load_denoiser(dtype=dtype, device=device)
    return Denoising(denoiser, files.load_decoder(dtype=DECODED_IN, device=device))


def fixed_rows(data: EncodedData, config: ValidationConfig, process: NoiseProcess, dtype: torch.dtype) -> FixedRows:
    """Held-out images x noise levels that stand for all x fixed noise.

    Args:
        data: Encoded held-out images; the first variant of each is used.
        config: How many images and levels.
        process: Of the base.
        dtype: Dtype of latents and noise.
    """
    return _rows_of(data, slice(config.max_images), "validation", config, process, dtype)


def _rows_of(  # which images, and what is made of them
    data: EncodedData,
    part: slice,
    purpose: str,
    config: ValidationConfig,
    process: NoiseProcess,
    dtype: torch.dtype,
) -> FixedRows:
    """Some of the images, in the order of their content; noise of another purpose is other noise."""
    order = sorted(range(len(data.records)), key=lambda i: (data.records[i].digest, data.records[i].caption))
    images = order[part]
    records, texts = [data.records[image] for image in images], data.caption_index[images]
    told = {name: states[texts] for name, states in data.captions.items()}
    names = [(purpose, record.digest, record.caption) for record in records]
    rows = _at_all_levels(data.latents[images, 0].to(dtype), told, names, config, process)
    levels, each = rows.inputs[_LEVELS], len(rows) // len(images)
    return replace(
        rows,
        groups={band.label: inside for band in process.bands() if (inside := _inside(band, levels)).any()},
        items=tuple(record.shown for record in records for _ in range(each)),
        called="images",
    )


def _at_all_levels(
    clean: Tensor, told: Inputs, names: Sequence[tuple[str, ...]], config: ValidationConfig, process: NoiseProcess
) -> FixedRows:
    """Each picture at each level that stands for all, with noise of its own.

    Args:
        clean: Latents, ``[n, C, h, w]``.
        told: What the base is told of each, ``[n, ...]``.
        names: Of each, by which its noise is drawn: a purpose, and what tells it from others.
        config: How many levels.
        process: Of the base.
    """
    levels = process.strata(config.timesteps)
    noise = [
        sample_noise(clean.shape[1:], stream_key(_FIXED_SEED, *name, str(level)), clean.dtype)
        for name in names
        for level in levels
    ]
    return FixedRows(
        inputs={
            _LATENTS: clean.repeat_interleave(len(levels), dim=0),
            _NOISE: torch.stack(noise),
            _LEVELS: torch.tensor(levels * len(names)),
            **{name: states.to(clean.dtype).repeat_interleave(len(levels), dim=0) for name, states in told.items()},
        },
        per_forward=config.batch_rows or rows_of_a_forward(clean.shape[-2] * clean.shape[-1]),
    )


def blank_inputs(denoiser: Denoiser, sizes: BaseSizes, rows: int, *, resolution: int, dtype: torch.dtype) -> Inputs:
    """Inputs of the right shapes with nothing in them: what memory is predicted from."""
    side = resolution // sizes.pixels_per_cell
    latents = torch.zeros(rows, denoiser.latent_channels, side, side, dtype=dtype)
    conditioning: dict[str, Any] = sizes.conditioning(rows, dtype)
    return {
        _LATENTS: latents,
        _NOISE: torch.zeros_like(latents),
        _LEVELS: torch.zeros(rows, dtype=torch.int64),
        **conditioning,
    }


def _inside(band: Band, levels: Tensor) -> Tensor:
    return (levels >= band.low) & (levels < band.high)


def _conditioning(inputs: Inputs) -> Inputs:
    return {name: states for name, states in inputs.items() if name not in (_LATENTS, _NOISE, _LEVELS)}


def _noise(member: Trainee, ordinal: int, dtype: torch.dtype) -> Tensor:
    shape = material_of(member).train.latents.shape[2:]
    seed, weight = member.config.seed, objective_of(member).noise_offset
    noise = sample_noise(shape, stream_key(seed, "noise", ordinal), dtype)
    if weight:
        channel = sample_noise(shape[:1], stream_key(seed, "noise_offset", ordinal), dtype)
        noise = noise_offset(noise, channel, weight)
    return noise
