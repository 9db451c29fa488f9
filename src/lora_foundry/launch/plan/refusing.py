"""Jobs that no slot has the memory for, however little of them is computed at a time: refused before they start."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lora_foundry.config.doing import NO_DRAWING, WHILE
from lora_foundry.config.errors import SweepError
from lora_foundry.config.giving_way import last_rung
from lora_foundry.config.launcher import Settings
from lora_foundry.config.schema import JobConfig, Precision
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.budget import GIB, Budget, Peak

_SHOWN_KINDS, _SHOWN_JOBS = 3, 4
_SMALLER = (0.75, 0.5, 0.25)  # resolutions to look at, of what was asked for
_LEAST_STRIDES = 2  # of a picture's side: below that nobody wants one
_SPARE_GIB = 0.1
# A close call may try: all processes were within 15 % of what was predicted (docs/memory.md), and on a CPU the program
# itself, taken for 0.75 GiB, was seen to take 0.5.
_CERTAIN, _PROGRAM = 1.15, int(0.25 * GIB)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A slot as a job sees it: what it may take there, and what it takes at least."""

    slot: Slot
    room: int
    peak: Peak

    @property
    def missing(self) -> int:
        return self.peak.size - self.room


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hopeless:
    """A job that fits nowhere, and the slot where least is missing."""

    config: JobConfig
    place: _Place


def refuse_hopeless(configs: Mapping[int, JobConfig], budget: Budget, settings: Settings) -> None:
    """Refuse jobs that would end without a step, as far as is known; where nothing is known nothing is refused.

    Args:
        configs: Job number to configuration.
        budget: What slots have and what jobs need.
        settings: What of the slots' memory is left alone.

    Raises:
        SweepError: With what each kind of such jobs needs, what there is, and what would fit.
    """
    kinds: dict[tuple[object, ...], list[int]] = {}
    found: dict[tuple[object, ...], _Hopeless] = {}
    for number, config in configs.items():
        hopeless = _hopeless(config, budget)
        if hopeless is not None:
            key = (*_kind(config), hopeless.place.peak)
            kinds.setdefault(key, []).append(number)
            found.setdefault(key, hopeless)
    if found:
        sys.stderr.write("No slot has the memory for some jobs; looking for what would fit\n")  # traces take seconds
        shown = list(found)[:_SHOWN_KINDS]
        lines = [_told(kinds[key], found[key], budget, settings) for key in shown]
        more = sum(len(numbers) for key, numbers in kinds.items() if key not in shown)
        raise SweepError([*lines, *([f"and {more} more jobs that do not fit"] if more else [])])


def _hopeless(config: JobConfig, budget: Budget) -> _Hopeless | None:
    places = []
    for slot in budget.slots:
        room = _room(slot, config)
        peak = None if room is None else _least(config, slot, room, budget)
        if room is None or peak is None or not _is_hopeless(peak.size, room, slot):
            return None
        places.append(_Place(slot=slot, room=room, peak=peak))
    return _Hopeless(config=config, place=min(places, key=lambda place: place.missing)) if places else None


def _is_hopeless(needs: int, room: int, slot: Slot) -> bool:
    return needs > room * _CERTAIN + (_PROGRAM if slot.device == "cpu" else 0)


def _room(slot: Slot, config: JobConfig) -> int | None:
    limit = config.memory.limit_gib
    bounds = [slot.memory, None if limit is None else int(limit * GIB)]
    return min((bound for bound in bounds if bound is not None), default=None)


def _least(config: JobConfig, slot: Slot, room: int, budget: Budget) -> Peak | None:
    """The peak at the first rung that fits, else at the last; a trace is not made before it is needed.

    Rungs are for steps: what else a job does is at its least from the start, before any step has run out of memory.
    """
    peak = None
    for rung in (config, _one_row(config), last_rung(config)):
        peak = budget.forecast.peak_of([rung], slot, trace=budget.trace, corrected=False)
        if peak is None or peak.size <= room or peak.doing != "step":
            return peak
    return peak


def _one_row(config: JobConfig) -> JobConfig:
    return replace(config, data=replace(config.data, batch_size=1))


def _unchanging(config: JobConfig) -> JobConfig:
    """``config`` where nothing that was asked for gives way, as it is where no step has run out of memory."""
    return replace(config, memory=replace(config.memory, mode="exact", may_change=()))


def _sized(config: JobConfig, resolution: int) -> JobConfig:
    return replace(config, data=replace(config.data, resolution=resolution))


def _ranked(config: JobConfig, rank: int) -> JobConfig:
    alpha = config.lora.alpha * rank / config.lora.rank
    return replace(config, lora=replace(config.lora, rank=rank, alpha=alpha))


def _kind(config: JobConfig) -> tuple[object, ...]:
    """What the message says of a job."""
    limit = config.memory.limit_gib
    return config.model.name, config.data.resolution, config.lora.rank, config.trainer.precision, limit


def _told(numbers: Sequence[int], hopeless: _Hopeless, budget: Budget, settings: Settings) -> str:
    config, place = hopeless.config, hopeless.place
    limit = config.memory.limit_gib
    limited = limit is not None and (place.slot.memory is None or limit * GIB <= place.slot.memory)
    there = "memory.limit_gib" if limited else f"{place.slot.name}, less hydra.launcher.reserve={settings.reserve:g}"
    at_least = "one row a forward, with gradient checkpointing"
    doing = at_least if place.peak.doing == "step" else WHILE[place.peak.doing]
    text = (
        f"{_jobs(numbers)}: {config.model.name} at {config.data.resolution} px, rank {config.lora.rank}, "
        f"{config.trainer.precision}, takes {place.peak.size / GIB:.2f} GiB when it trains alone, {doing}, but may "
        f"take {place.room / GIB:.2f} GiB ({there})"
    )
    rows = [*_more_room(config, place, settings), *_smaller(config, place, budget)]
    if not rows:
        return f"{text}; no lower precision, resolution or rank would fit either: take a smaller base or another device"
    width = max(len(word) for word, _ in rows)
    table = [f"      {word:<{width}}  {needs / GIB:5.2f} GiB" for word, needs in rows]
    return "\n".join([f"{text}. What would fit:", *table])


def _more_room(config: JobConfig, place: _Place, settings: Settings) -> Iterator[tuple[str, int]]:
    """Settings that leave the job more room, with what it needs then."""
    memory, limit, needs = place.slot.memory, config.memory.limit_gib, place.peak.size
    if limit is not None and limit * GIB < needs and (memory is None or needs <= memory):
        yield f"memory.limit_gib={math.ceil((needs / GIB + _SPARE_GIB) * 10) / 10:g}", needs
    if memory is None or needs <= memory or (limit is not None and limit * GIB < needs):
        return
    free = memory * settings.slots_each / (1.0 - settings.reserve)
    if settings.slots_each > 1 and needs <= memory * settings.slots_each:
        yield "hydra.launcher.slots=1", needs
    reserve = math.floor((1.0 - needs * settings.slots_each / free) * 100) / 100
    if 0.0 <= reserve < settings.reserve:
        yield f"hydra.launcher.reserve={reserve:g}", needs


def _smaller(config: JobConfig, place: _Place, budget: Budget) -> Iterator[tuple[str, int]]:
    """Smaller jobs that fit, with what they need at the ladder's end: one value changed, or else several."""
    asked, stride = config.data.resolution, config.model.stride
    sizes = [size for share in _SMALLER if (size := int(asked * share) // stride * stride) >= _LEAST_STRIDES * stride]
    precise = config.trainer.precision.startswith(("32", "64"))
    half: Precision = "16-mixed" if place.slot.precision == "16-mixed" else "bf16-mixed"
    coarse = [(f"trainer.precision={half}", replace(config.trainer, precision=half))] if precise else []

    def needed(words: Sequence[str], changed: JobConfig) -> Iterator[tuple[str, int]]:
        rung = last_rung(changed if place.peak.doing == "step" else _unchanging(changed))
        peak = budget.forecast.peak_of([rung], place.slot, trace=budget.trace, corrected=False)
        if peak is not None and peak.size <= place.room:
            yield " ".join(words), peak.size

    found: list[tuple[str, int]] = []
    if place.peak.doing == "drawing":
        found += needed([NO_DRAWING], replace(config, sample=replace(config.sample, enabled=False)))
    found += [row for word, trainer in coarse for row in needed([word], replace(config, trainer=trainer))]
    if lowest := [row for size in sizes[-1:] for row in needed([f"data.resolution={size}"], _sized(config, size))]:
        larger = (row for size in sizes[:-1] for row in needed([f"data.resolution={size}"], _sized(config, size)))
        found.append(next(larger, lowest[0]))
    if config.lora.rank > 1:
        found += needed(["lora.rank=1"], _ranked(config, 1))
    if not found and sizes:
        smallest, words = _ranked(_sized(config, sizes[-1]), 1), [f"data.resolution={sizes[-1]}", "lora.rank=1"]
        for word, trainer in coarse:
            smallest, words = replace(smallest, trainer=trainer), [word, *words]
        found += needed(words, smallest)
    yield from found


def _jobs(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN_JOBS]))
    more = f" and {len(numbers) - _SHOWN_JOBS} more" if len(numbers) > _SHOWN_JOBS else ""
    return f"{'job' if len(numbers) == 1 else 'jobs'} {shown}{more}"
