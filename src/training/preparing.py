"""From a pack's jobs to members: configs, data checks, caches; each job fails alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from src.config import ConfigError, JobConfig
from src.config.length import too_long_a_warmup, total_steps
from src.config.paths import locate
from src.config.warned import Warned
from src.data.cache import TensorCache
from src.data.checks import CheckedData, check_data, validation_view
from src.data.encoding import EncodedData, encode_captions, encode_data
from src.data.inventory import Inventory, take_inventory
from src.data.order import SampleOrder
from src.data.records import DataError
from src.models.protocol import BaseError
from src.models.targets import kinds_of, resolve_targets
from src.training.bases import device_of
from src.training.continuing import check_start
from src.training.job_config import read_config
from src.training.member import Member, Prompts, Provenance
from src.training.pack import StoppedError, never
from src.training.precision import DTYPES
from src.training.prompts import prompt_warnings, prompts_of
from src.training.shortage import in_fewer_rows
from src.training.sink import warn, warn_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from src.config.schema import DataConfig
    from src.models.protocol import BaseFiles, CaptionEncoder, ImageEncoder
    from src.training.bases import Bases
    from src.training.jobs import PackedJob
    from src.training.sink import Sink

# Latents and text states are made and kept in fp32 whatever the base trains in: they are made once, the
# fp16 VAEs of this field overflow, and jobs of different precision then share one cache.
_CACHE_DTYPE = torch.float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A job whose configuration and data are sound."""

    job: PackedJob
    config: JobConfig
    files: BaseFiles
    data: CheckedData


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """What jobs with the same data and base share in memory."""

    train: EncodedData
    validation: EncodedData
    inventory: Inventory


Limit = Callable[[float | None, int, torch.device], str | None]


def no_limit(limit_gib: float | None, weights: int, device: torch.device) -> None:
    """Nothing is wrong with any limit."""


def check_jobs(jobs: Sequence[PackedJob], bases: Bases, sink: Sink, too_small: Limit = no_limit) -> list[Checked]:
    """The jobs that can train; the others are FAILED, each with all its problems, before any base is loaded.

    Args:
        jobs: What to look at.
        bases: Finds bases.
        sink: Is told of what is wrong.
        too_small: Says why ``memory.limit_gib`` cannot do with a base of so many bytes on a device, or None.
    """
    checked: list[Checked] = []
    seen: dict[object, CheckedData] = {}
    told: set[Warned] = set()
    for job in jobs:
        try:
            config = read_config(job.folder)
            device = device_of(config)
            files = bases.files(config)
            if config.memory.limit_gib is not None:
                files.import_libraries()
            unused = _check_adapter(job, config, files)
            weights = files.denoiser_bytes(DTYPES[config.trainer.precision].base)
            _refuse(too_small(config.memory.limit_gib, weights, device))
            key = (_data_key(config.data), config.model)
            first = key not in seen
            if first:
                seen[key] = check_data(config.data, count_tokens=files.count_tokens, max_tokens=files.max_tokens)
                for line in seen[key].skipped:
                    sink.emit("log", job.job, level="warning", message=line)
            warn_all(sink, job.job, seen[key].warnings, aloud=first)
            captions = [record.caption for record in seen[key].val]
            warnings = [
                *(Warned(topic="base", text=line) for line in files.remarks),
                *(Warned(topic="init-from", text=line) for line in unused),
                *prompt_warnings(config, captions, files.count_tokens, files.max_tokens),
            ]
            warn_all(sink, job.job, warnings, aloud=not told.issuperset(warnings))
            told.update(warnings)
            checked.append(Checked(job=job, config=config, files=files, data=seen[key]))
        except (ConfigError, DataError, BaseError, ValueError, OSError) as error:
            sink.emit("state", job.job, state="FAILED", error=str(error), summary=None)
    return checked


def _check_adapter(job: PackedJob, config: JobConfig, files: BaseFiles) -> list[str]:
    """Whether the base has the layers that are to be adapted, and the file that is begun with fits them."""
    resolve_targets(kinds_of(files.layers()), config.lora.target_modules)
    return [] if job.resume else check_start(config.lora, job.folder, files)


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise ConfigError([problem])


class Encoders:
    """Makes members of checked jobs, with latents and text states from the cache or computed now."""

    def __init__(self, sink: Sink, stop: Callable[[], bool] = never) -> None:
        """Take in where events go, and what is asked between two batches of images or captions."""
        self._sink = sink
        self._stop = stop
        self._shared: dict[object, _Shared] = {}

    def members(self, checked: list[Checked]) -> list[Member]:
        """A member a job; jobs with equal data share its tensors. A job whose data cannot be encoded is FAILED."""
        made: list[Member] = []
        for one in checked:
            try:
                made.append(self._member(one))
            except (DataError, BaseError, ValueError, OSError) as error:
                self._sink.emit("state", one.job.job, state="FAILED", error=str(error), summary=None)
        return made

    def _member(self, checked: Checked) -> Member:
        config, device = checked.config, device_of(checked.config)
        images = _Patient(checked.files.image_encoder(dtype=_CACHE_DTYPE, device=device), self._stop, device)
        captions = _Patient(checked.files.caption_encoder(dtype=_CACHE_DTYPE, device=device), self._stop, device)
        cache = TensorCache(Path(config.data.cache_dir))
        log = self._log(checked.job.job)
        key = (_data_key(config.data), config.model, checked.data.data_hash)
        try:
            if key not in self._shared:
                self._shared[key] = _encode(checked, images, captions, cache, log)
            prompts = _prompts(checked, captions, cache, log)
        finally:
            images.close()
            captions.close()
        shared = self._shared[key]
        repeats = [record.repeats for record in shared.train.records]
        order = SampleOrder.of(config.data, seed=config.seed, n_images=len(repeats), repeats=repeats)
        steps = total_steps(config, order.epoch)
        if config.trainer.epochs is not None and (text := too_long_a_warmup(config, steps)) is not None:
            warn(self._sink, checked.job.job, "warmup", text)
        return Member(
            job=checked.job.job,
            name=checked.job.name,
            folder=checked.job.folder,
            config=config,
            train=shared.train,
            validation=shared.validation,
            prompts=prompts,
            provenance=Provenance(
                base_hash=checked.files.base_hash,
                data_hash=checked.data.data_hash,
                started_at=time.time(),
                inventory=shared.inventory,
            ),
            order=order,
            total_steps=steps,
            cache=cache,
        )

    def _log(self, job: int) -> Callable[[str], None]:
        return lambda message: self._sink.emit("log", job, level="info", message=message)


class _Patient:
    """An encoder that can be stopped between two batches, and takes a batch in parts where memory is short.

    What was encoded before a stop is in the cache by then.
    """

    def __init__(
        self,
        encoder: Any,  # noqa: ANN401  # of images or of captions
        stop: Callable[[], bool],
        device: torch.device,
    ) -> None:
        self._encoder = encoder
        self._stop = stop
        self._device = device
        self.fingerprint: str = encoder.fingerprint

    def encode(self, batch: Any) -> Any:  # noqa: ANN401
        """As the encoder's.

        Raises:
            StoppedError: When a stop was asked for.
        """

        def with_most(rows: int) -> list[Any]:
            return [self._part(batch[first : first + rows]) for first in range(0, len(batch), rows)]

        parts, _ = in_fewer_rows(with_most, len(batch), self._device)
        if isinstance(parts[0], dict):
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return torch.cat(parts)

    def _part(self, batch: Any) -> Any:  # noqa: ANN401
        if self._stop():
            raise StoppedError
        return self._encoder.encode(batch)

    def close(self) -> None:
        """Let the weights go."""
        self._encoder.close()


def _encode(
    checked: Checked,
    images: ImageEncoder,
    captions: CaptionEncoder,
    cache: TensorCache,
    log: Callable[[str], None],
) -> _Shared:
    data = checked.config.data
    held_out = validation_view(data)
    return _Shared(
        train=encode_data(
            checked.data.train, data, images=images, captions=captions, cache=cache, dtype=_CACHE_DTYPE, log=log
        ),
        validation=encode_data(
            checked.data.val, held_out, images=images, captions=captions, cache=cache, dtype=_CACHE_DTYPE, log=log
        ),
        inventory=take_inventory(data, [*checked.data.train, *checked.data.val]),
    )


def _prompts(
    checked: Checked, captions: CaptionEncoder, cache: TensorCache, log: Callable[[str], None]
) -> Prompts | None:
    if not checked.config.sample.enabled:
        return None
    texts = prompts_of(checked.config, [record.caption for record in checked.data.val])
    states = encode_captions([*texts, ""], captions=captions, cache=cache, dtype=_CACHE_DTYPE, log=log)
    return Prompts(
        texts=texts,
        conditioning={name: rows[:-1] for name, rows in states.items()},
        empty={name: rows[-1:] for name, rows in states.items()},
    )


def _data_key(data: DataConfig) -> tuple[object, ...]:
    """What decides the encoded tensors; batch size and caption dropout do not."""
    return (
        str(locate(data.path)),
        data.val_path,
        data.val_fraction,
        data.resolution,
        data.crop,
        data.crop_variants,
        data.flip,
        data.background,
        data.caption_prefix,
        data.captions,
        data.repeats,
        data.follow_links,
        data.on_bad,
        data.cache_dir,
    )
