"""From a pack's jobs to members: configs, data checks, caches; each job fails alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config import ConfigError, JobConfig, parse
from src.config.paths import locate
from src.data.cache import TensorCache
from src.data.checks import CheckedData, check_data, validation_view
from src.data.encoding import EncodedData, encode_captions, encode_data
from src.data.order import SampleOrder
from src.data.records import DataError
from src.models.protocol import BaseError
from src.training.bases import device_of
from src.training.member import Member, Prompts, Provenance, total_steps
from src.training.pack import StoppedError, never

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from src.config.schema import DataConfig
    from src.models.protocol import BaseFiles, CaptionEncoder, ImageEncoder
    from src.training.bases import Bases
    from src.training.jobs import PackedJob
    from src.training.sink import Sink

# Latents and text states are made and kept in fp32 whatever the base trains in: they are made once, the
# fp16 VAEs of this field overflow, and jobs of different precision then share one cache.
_CACHE_DTYPE = torch.float32
_DRAWN_BY_DEFAULT = 4


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


def check_jobs(jobs: Sequence[PackedJob], bases: Bases, sink: Sink) -> list[Checked]:
    """The jobs that can train; the others are FAILED, each with all its problems, before any base is loaded."""
    checked: list[Checked] = []
    seen: dict[object, CheckedData] = {}
    for job in jobs:
        try:
            config = read_config(job.folder)
            device_of(config)
            files = bases.files(config)
            key = (_data_key(config.data), config.model)
            if key not in seen:
                seen[key] = check_data(config.data, count_tokens=files.count_tokens, max_tokens=files.max_tokens)
                for level, lines in (("warning", seen[key].warnings), ("warning", seen[key].skipped)):
                    for line in lines:
                        sink.emit("log", job.job, level=level, message=line)
            checked.append(Checked(job=job, config=config, files=files, data=seen[key]))
        except (ConfigError, DataError, BaseError, ValueError, OSError) as error:
            sink.emit("state", job.job, state="FAILED", error=str(error), summary=None)
    return checked


def read_config(folder: Path) -> JobConfig:
    """The configuration in a job's folder.

    Raises:
        ConfigError: When it is missing or wrong.
    """
    path = folder / ".hydra" / "config.yaml"
    try:
        return parse(OmegaConf.load(path))  # type: ignore[arg-type]  # a mapping, or parse says so
    except (OSError, OmegaConfBaseException) as error:
        raise ConfigError([f"{path}: {error}"]) from error


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
        images = _Stoppable(checked.files.image_encoder(dtype=_CACHE_DTYPE, device=device), self._stop)
        captions = _Stoppable(checked.files.caption_encoder(dtype=_CACHE_DTYPE, device=device), self._stop)
        cache = TensorCache(Path(config.data.cache_dir).expanduser())
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
        count = len(shared.train.records)
        return Member(
            job=checked.job.job,
            name=checked.job.name,
            folder=checked.job.folder,
            config=config,
            train=shared.train,
            validation=shared.validation,
            prompts=prompts,
            provenance=Provenance(
                base_hash=checked.files.base_hash, data_hash=checked.data.data_hash, started_at=time.time()
            ),
            order=SampleOrder.of(config.data, seed=config.seed, n_images=count),
            total_steps=total_steps(config, count),
            cache=cache,
        )

    def _log(self, job: int) -> Callable[[str], None]:
        return lambda message: self._sink.emit("log", job, level="info", message=message)


class _Stoppable:
    """An encoder that can be stopped between two batches; what was encoded is in the cache by then."""

    def __init__(self, encoder: Any, stop: Callable[[], bool]) -> None:  # noqa: ANN401  # of images or of captions
        self._encoder = encoder
        self._stop = stop
        self.fingerprint: str = encoder.fingerprint

    def encode(self, batch: Any) -> Any:  # noqa: ANN401
        """As the encoder's.

        Raises:
            StoppedError: When a stop was asked for.
        """
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
    )


def _prompts(
    checked: Checked, captions: CaptionEncoder, cache: TensorCache, log: Callable[[str], None]
) -> Prompts | None:
    sample = checked.config.sample
    if not sample.enabled:
        return None
    texts = sample.prompts or tuple(dict.fromkeys(r.caption for r in checked.data.val))[:_DRAWN_BY_DEFAULT]
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
        data.on_bad,
        data.cache_dir,
    )
