"""From a pack's jobs to members: configs, data checks, caches; each job fails alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lora_foundry.config import ConfigError, JobConfig
from lora_foundry.config.length import too_long_a_warmup, total_steps
from lora_foundry.config.warned import Warned
from lora_foundry.data.cache import TensorCache
from lora_foundry.data.order import SampleOrder
from lora_foundry.data.records import DataError
from lora_foundry.models.protocol import BaseError
from lora_foundry.models.targets import kinds_of, resolve_targets
from lora_foundry.tasks.opening import open_preparation
from lora_foundry.training.continuing import check_start
from lora_foundry.training.device import refuse_other
from lora_foundry.training.job_config import read_config
from lora_foundry.training.member import Member, Provenance
from lora_foundry.training.pack import StoppedError, never
from lora_foundry.training.precision import DTYPES, cannot_repeat, exact
from lora_foundry.training.shortage import asked_in_every_layer, give_back, in_fewer_rows
from lora_foundry.training.sink import warn, warn_all
from lora_foundry.wire.events import LogEvent, StateEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_foundry.models.protocol import BaseFiles
    from lora_foundry.tasks.protocol import Preparation, Sound
    from lora_foundry.training.bases import Bases
    from lora_foundry.training.sink import Sink
    from lora_foundry.wire.commands import PackedJob


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A job whose configuration and data are sound."""

    job: PackedJob
    config: JobConfig
    files: BaseFiles
    data: Sound


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
    seen: dict[object, Sound] = {}
    preparations = _Preparations()
    told: set[Warned] = set()
    for job in jobs:
        try:
            config = read_config(job.dir)
            refuse_other(config.trainer, bases.device)
            _refuse(cannot_repeat(config.trainer, bases.device))
            files = bases.files(config)
            if config.memory.limit_gib is not None:
                files.import_libraries()
            unused = _check_adapter(job, config, files)
            weights = files.weight_bytes(DTYPES[config.trainer.precision].base)
            _refuse(too_small(config.memory.limit_gib, weights, bases.device))
            preparation = preparations.of(config)
            key = (config.model.family, preparation.key(config))
            first = key not in seen
            if first:
                seen[key] = preparation.check(config, files)
                for line in seen[key].skipped:
                    sink.emit(LogEvent(job=job.job, level="warning", message=line))
            warn_all(sink, job.job, seen[key].warnings, aloud=first)
            warnings = [
                *(Warned(topic="base", text=line) for line in files.remarks),
                *(Warned(topic="init-from", text=line) for line in unused),
                *preparation.warnings(config, files, seen[key]),
            ]
            warn_all(sink, job.job, warnings, aloud=not told.issuperset(warnings))
            told.update(warnings)
            checked.append(Checked(job=job, config=config, files=files, data=seen[key]))
        except (ConfigError, DataError, BaseError, ValueError, OSError) as error:
            sink.emit(StateEvent(job=job.job, state="FAILED", error=str(error)))
    return checked


def _check_adapter(job: PackedJob, config: JobConfig, files: BaseFiles) -> list[str]:
    """Whether the base has the layers that are to be adapted, and the file that is begun with fits them."""
    resolve_targets(kinds_of(files.layers()), config.lora.target_modules)
    return [] if job.resume else check_start(config.lora, job.dir, files)


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise ConfigError([problem])


class _Preparations:
    """One for each family that jobs come with; it shares what they have in common."""

    def __init__(self) -> None:
        self._opened: dict[str, Preparation] = {}

    def of(self, config: JobConfig) -> Preparation:
        family = config.model.family
        if family not in self._opened:
            self._opened[family] = open_preparation(family)
        return self._opened[family]


class Encoders:
    """Makes members of checked jobs, with what is encoded from the cache or computed now."""

    def __init__(
        self,
        sink: Sink,
        device: torch.device,
        stop: Callable[[], bool] = never,
        relief: Callable[[], None] = lambda: None,
    ) -> None:
        """Take in where events go, where is encoded, and what is asked between two batches, and in each layer."""
        self._sink = sink
        self._device = device
        self._stop = stop
        self._relief = relief
        self._preparations = _Preparations()

    def members(self, checked: list[Checked]) -> list[Member]:
        """A member a job; jobs with equal data share its tensors. A job whose data cannot be encoded is FAILED."""
        made: list[Member] = []
        for one in checked:
            try:
                made.append(self._member(one))
            except (DataError, BaseError, ValueError, OSError) as error:
                self._sink.emit(StateEvent(job=one.job.job, state="FAILED", error=str(error)))
        return made

    def _member(self, checked: Checked) -> Member:
        config, job = checked.config, checked.job
        cache = TensorCache(Path(config.data.cache_dir))
        made = self._preparations.of(config).make(
            config,
            checked.files,
            checked.data,
            device=self._device,
            cache=cache,
            patience=lambda encoder, device: _Patient(encoder, self._stop, device, self._relief),
            log=self._log(job.job),
        )
        order = SampleOrder.of(
            config.data, seed=config.seed, n_images=len(made.repeats), repeats=made.repeats, gaps=made.gaps
        )
        steps = total_steps(config, order.epoch)
        if config.trainer.epochs is not None and (text := too_long_a_warmup(config, steps)) is not None:
            warn(self._sink, job.job, "warmup", text)
        return Member(
            job=job.job,
            name=job.name,
            folder=job.dir,
            config=config,
            material=made.material,
            provenance=Provenance(
                base_hash=checked.files.base_hash,
                data_hash=checked.data.data_hash,
                started_at=time.time(),
                inventory=made.inventory,
            ),
            order=order,
            total_steps=steps,
            cache=cache,
        )

    def _log(self, job: int) -> Callable[[str], None]:
        return lambda message: self._sink.emit(LogEvent(job=job, level="info", message=message))


class _Patient:
    """An encoder that can be stopped between two batches, and takes a batch in parts where memory is short.

    What was encoded before a stop is in the cache by then.
    """

    def __init__(
        self,
        encoder: Any,  # noqa: ANN401  # of whatever the task has encoded
        stop: Callable[[], bool],
        device: torch.device,
        relief: Callable[[], None] = lambda: None,
    ) -> None:
        self._encoder = encoder
        self._stop = stop
        self._device = device
        self._relief = relief
        self._used = False
        self.fingerprint: str = encoder.fingerprint

    def encode(self, batch: Any) -> Any:  # noqa: ANN401
        """As the encoder's.

        Raises:
            StoppedError: When a stop was asked for.
        """

        def with_most(rows: int) -> list[Any]:
            with nullcontext() if rows == 1 else asked_in_every_layer(self._relief):
                return [self._part(batch[first : first + rows]) for first in range(0, len(batch), rows)]

        parts, _ = in_fewer_rows(with_most, len(batch), self._device)
        if isinstance(parts[0], dict):
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return torch.cat(parts)

    def _part(self, batch: Any) -> Any:  # noqa: ANN401
        if self._stop():
            raise StoppedError
        self._used = True
        with exact():  # what is encoded is kept for every device and precision
            return self._encoder.encode(batch)

    def close(self) -> None:
        """Let the weights go, and their share of the device."""
        self._encoder.close()
        if self._used:
            give_back(self._device)
