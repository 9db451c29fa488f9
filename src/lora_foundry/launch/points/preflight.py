"""What jobs name is looked at before anything is made: data, bases, adapter files, and space for what they will write.

The rooms that know these are not imported here; :data:`Looks` come from ``src/lora_foundry/wiring``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.schema import JobConfig
from lora_foundry.config.warned import Warned
from lora_foundry.launch.points.copies import copy_problems
from lora_foundry.launch.points.disks import no_space, too_long, unwritable

_SHOWN = 50  # problems of one look
_KINDS = 64  # of adapters whose size is asked for
_RECORDS = 32 * 2**10  # bytes: a job's configuration, its events and results, in blocks of a disk
_FILES = 2  # an adapter is written in two formats


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A job before it trains.

    Attributes:
        config: Its configuration.
        words: Its override list; None where that is not known any more.
        begun: Whether it has a checkpoint to go on from.
    """

    config: JobConfig
    words: tuple[str, ...] | None = None
    begun: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A look at files that a job names.

    Attributes:
        decides: What of a job decides what is found; jobs that agree in it are looked at once.
        problems: A line for each problem, relative paths starting from a folder; an ``OSError`` is one more.
        remarks: What a worker will warn of, for plans, which none reads.
    """

    decides: Callable[[Asked], Hashable]
    problems: Callable[[Asked, Path], Sequence[str]]
    remarks: Callable[[Asked, Path], Sequence[Warned]] = lambda *_: ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """What other rooms know of a job before it trains.

    Attributes:
        looks: At what it names.
        adapter_bytes: Bytes of its adapter's file; None where that is not known yet.
    """

    looks: tuple[Look, ...] = ()
    adapter_bytes: Callable[[JobConfig], int | None] = lambda _: None


def unready(jobs: Mapping[int, Asked], looks: Looks, start: Path) -> dict[int, list[str]]:
    """Job number to what is wrong with what it names; jobs with nothing wrong are left out.

    Args:
        jobs: By job number.
        looks: What to look at.
        start: Folder that relative paths start from.
    """
    found: dict[int, list[str]] = {}
    for position, look in enumerate((*looks.looks, _CACHE, _COPIES)):
        seen: dict[Hashable, Sequence[str]] = {}
        for number, job in jobs.items():
            key = position, look.decides(job)
            if key not in seen:
                seen[key] = _first(_looked(look, job, start))
            if seen[key]:
                found.setdefault(number, []).extend(seen[key])
    return found


def remarked(jobs: Mapping[int, Asked], looks: Looks, start: Path) -> dict[int, list[Warned]]:
    """Job number to what a worker will warn of, as far as it is known before; arguments as :func:`unready` has them."""
    found: dict[int, list[Warned]] = {number: [] for number in jobs}
    for look in looks.looks:
        seen: dict[Hashable, Sequence[Warned]] = {}
        for number, job in jobs.items():
            key = look.decides(job)
            if key not in seen:
                seen[key] = look.remarks(job, start)
            found[number].extend(seen[key])
    return found


def long_names(folders: Iterable[Path], sweep_dir: Path) -> list[str]:
    """A line when the disk cannot hold a job's folder and its files."""
    for folder in folders:
        why = too_long(folder, for_job=True)
        if why is not None:
            key = "hydra.sweep.dir" if too_long(sweep_dir.absolute(), for_job=True) else "hydra.sweep.subdir"
            return [f"{key}: {folder.name[:20]}... cannot be made ({why}); give a shorter one"]
    return []


def full_disk(sweep_dir: Path, configs: Iterable[JobConfig], looks: Looks) -> list[str]:
    """A line when the sweep's disk cannot take even what is known to be written."""
    jobs = list(configs)
    sizes: dict[Hashable, int | None] = {}
    for config in jobs:
        kind = _adapter_kind(config)
        if kind not in sizes and len(sizes) < _KINDS:
            sizes[kind] = looks.adapter_bytes(config)
    adapters = sum(_FILES * (sizes.get(_adapter_kind(config)) or 0) for config in jobs)
    why = no_space(sweep_dir.absolute(), adapters + _RECORDS * (len(jobs) + 1))
    what = "records and adapters" if adapters else "records"
    jobs_in_words = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    advice = "free some space, or give another folder"
    return [] if why is None else [f"hydra.sweep.dir: {sweep_dir} has {why} for {what} of {jobs_in_words}; {advice}"]


def _looked(look: Look, job: Asked, start: Path) -> Sequence[str]:
    try:
        return look.problems(job, start)
    except OSError as error:  # a folder that may not be read, a name too long
        return [f"{error.filename}: cannot be read ({error.strerror})"]


def _first(problems: Sequence[str]) -> Sequence[str]:
    more = len(problems) - _SHOWN
    return [*problems[:_SHOWN], f"and {more} more problems of the same files"] if more > 0 else problems


def _adapter_kind(config: JobConfig) -> Hashable:
    return config.model, config.lora.rank, config.lora.target_modules


def _cache_problems(job: Asked, start: Path) -> list[str]:
    """A cache that is there may hold all that is needed, and may be somebody else's."""
    folder = (start / job.config.data.cache_dir).absolute()
    why = too_long(folder) or (None if folder.is_dir() else unwritable(folder))
    return [] if why is None else [f"data.cache_dir: {folder} cannot be written ({why}); give a folder that can"]


_CACHE = Look(decides=lambda job: job.config.data.cache_dir, problems=_cache_problems)
_COPIES = Look(
    decides=lambda job: job.config.export,
    problems=lambda job, start: copy_problems(job.config.export, start),
)
