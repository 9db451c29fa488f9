"""Which jobs train together: a pure function of their configurations.

What may differ inside a pack and what may not is DESIGN's rule: one base, one dtype and one input shape
a pack; everything that is a member's own may differ.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lora_foundry.config.kinds import shared, shared_text
from lora_foundry.config.length import rows_of
from lora_foundry.config.schema import JobConfig
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.plan.clock import Clock, NoPace, schedule
from lora_foundry.launch.plan.sizes import MOST_MEMBERS, MOST_ROWS


@dataclass(frozen=True, kw_only=True, slots=True)
class PackPlan:
    """Jobs that are to train together: a pack before a worker made one of them.

    Attributes:
        name: ``pack-0``, ``pack-1``, ... in the order they train.
        jobs: Numbers of the jobs, ascending.
        rows: Samples of one step with every member active.
    """

    name: str
    jobs: tuple[int, ...]
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The packs of a sweep.

    Attributes:
        packs: In the order they train.
        reasons: Why jobs were kept apart, a line each.
        seconds: What each pack should take.
        slots: Which slot each should train on.
        ends_s: When all should be over, starting included.
    """

    packs: tuple[PackPlan, ...]
    reasons: tuple[str, ...]
    seconds: tuple[float, ...]
    slots: tuple[int, ...]
    ends_s: float

    def pack_of(self, job: int) -> PackPlan:
        """The pack that ``job`` trains in."""
        return next(pack for pack in self.packs if job in pack.jobs)


_WORTH = 0.98  # smaller packs have to end so much earlier
_ANYWHERE = Slot(name="cpu", device="cpu")

Fits = Callable[[Sequence[JobConfig]], bool]
"""Whether jobs trained together, all rows in one forward, stay within the memory of a slot."""


def make_plan(
    jobs: Mapping[int, JobConfig],
    pack_size: int | None = None,
    first_pack: int = 0,
    *,
    slots: int = 1,
    fits: Fits | None = None,
    clock: Clock | None = None,
) -> Plan:
    """Form the packs with which the sweep should end earliest.

    Which jobs share a pack depends on their configurations alone, not on their order or number, except
    that equal configurations are told apart by number.

    Args:
        jobs: Job number to configuration.
        pack_size: Most members of a pack, at least 1. Null tries packs of 1, 2, 4, ... members, at most 8, and at most
            16 rows unless one job alone has more. On two CPU cores the gain of a member-step levels off at
            8 members of one row (3.0x a solo step; 16 give 3.1x), and falls with more rows (FACTS). Packs grow beyond
            that where their first steps show a gain (:mod:`lora_foundry.launch.plan.sizes`).
        first_pack: Number of the first pack.
        slots: How many packs train side by side.
        fits: Keeps packs within memory. A job that does not fit alone is a pack of its own: its worker takes fewer
            rows a forward.
        clock: Tells how long packs take.
    """
    clock = clock or Clock(NoPace(), _ANYWHERE, trace=False)
    alike: dict[str, list[int]] = {}
    for number in sorted(jobs):
        alike.setdefault(shared_text(jobs[number]), []).append(number)
    rows = MOST_ROWS if pack_size is None else None
    best: tuple[float, list[list[int]], list[float]] | None = None
    for members in (pack_size,) if pack_size is not None else _sizes(len(jobs), slots):
        chunks = [chunk for group in alike.values() for chunk in _split(group, jobs, members, rows, fits, clock)]
        times = {min(chunk): clock.pack_s([jobs[number] for number in chunk]) for chunk in chunks}
        # Longest first, so that the slots end together.
        chunks.sort(key=lambda chunk: (-times[min(chunk)], min(chunk)))
        seconds = [times[min(chunk)] for chunk in chunks]
        end, _ = schedule(seconds, slots)
        if best is None or end < best[0] * _WORTH:
            best = end, chunks, seconds
    if best is None:
        msg = "a plan needs at least one job"
        raise ValueError(msg)
    end, chunks, seconds = best
    packs = tuple(
        PackPlan(name=f"pack-{first_pack + place}", jobs=tuple(sorted(chunk)), rows=_rows(chunk, jobs))
        for place, chunk in enumerate(chunks)
    )
    groups = list(alike.values())
    reasons = [*_difference(groups, jobs), *_limits(groups, packs, pack_size, slots, measured=fits is not None)]
    places = tuple(schedule(seconds, slots)[1])
    return Plan(packs=packs, reasons=tuple(reasons), seconds=tuple(seconds), slots=places, ends_s=end)


def _sizes(jobs: int, slots: int) -> list[int]:
    """Most members of a pack to try: largest first, since of two that end together the fewer packs are better."""
    even = max(1, math.ceil(jobs / slots))
    sizes = {2**power for power in range(MOST_MEMBERS.bit_length()) if 2**power <= MOST_MEMBERS}
    return sorted({*sizes, min(even, MOST_MEMBERS)}, reverse=True)


def _rows(numbers: Sequence[int], jobs: Mapping[int, JobConfig]) -> int:
    return rows_of(jobs[number] for number in numbers)


def _order(numbers: Sequence[int], jobs: Mapping[int, JobConfig], clock: Clock) -> list[int]:
    """Jobs of like length next to each other, so that few leave a pack early; the rest is any fixed order."""

    def key(number: int) -> tuple[float, int, int, str, int]:
        job = jobs[number]
        text = json.dumps(dataclasses.asdict(job), sort_keys=True, default=str)
        return -clock.steps(job), -job.data.batch_size, job.lora.rank, text, number

    return sorted(numbers, key=key)


def _split(
    numbers: Sequence[int],
    jobs: Mapping[int, JobConfig],
    members: int,
    rows: int | None,
    fits: Fits | None,
    clock: Clock,
) -> list[list[int]]:
    """As few chunks as the limits allow, then as even as that number of chunks allows."""
    ordered = _order(numbers, jobs, clock)
    all_rows = rows if rows is not None else _rows(ordered, jobs)

    def cut(most_members: int, most_rows: int) -> list[list[int]]:
        return _cut(ordered, jobs, most_members, most_rows, fits)

    count = len(cut(members, all_rows))
    members = _smallest(members, lambda most: len(cut(most, all_rows)) == count)
    even_rows = _smallest(all_rows, lambda most: len(cut(members, most)) == count)
    return cut(members, even_rows)


def _cut(
    ordered: Sequence[int], jobs: Mapping[int, JobConfig], members: int, rows: int, fits: Fits | None
) -> list[list[int]]:
    chunks: list[list[int]] = []
    for number in ordered:
        last = chunks[-1] if chunks else None
        together = [*(last or ()), number]
        narrow = last is None or len(together) > members or _rows(together, jobs) > rows
        if last is not None and not narrow and (fits is None or fits([jobs[n] for n in together])):
            last.append(number)
        else:
            chunks.append([number])
    return chunks


def _smallest(high: int, holds: Callable[[int], bool]) -> int:
    """The least limit from 1 to ``high`` at which ``holds``; it holds at ``high`` and, once it does, above."""
    low = 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _difference(groups: Sequence[Sequence[int]], jobs: Mapping[int, JobConfig]) -> list[str]:
    if len(groups) < 2:
        return []
    common = [shared(jobs[group[0]]) for group in groups]
    keys = [key for key in common[0] if len({json.dumps(values[key]) for values in common}) > 1]
    of_model = [key for key in keys if key.startswith("model.")]
    bases = {json.dumps([values[key] for key in of_model]) for values in common}
    named = "model.name" in keys and len({str(values["model.name"]) for values in common}) == len(bases)
    lines = []
    for key in ["model.name", *(key for key in keys if key not in of_model)] if named else keys:
        numbers: dict[str, list[int]] = {}
        for values, group in zip(common, groups, strict=True):
            numbers.setdefault(str(values[key]), []).extend(group)
        parts = [f"{value} ({_numbers(of_value)})" for value, of_value in numbers.items()]
        what = "model" if named and key == "model.name" else key
        lines.append(f"{what} cannot differ inside a pack: {', '.join(parts)}")
    return lines


def _limits(
    groups: Sequence[Sequence[int]], packs: Sequence[PackPlan], pack_size: int | None, slots: int, *, measured: bool
) -> list[str]:
    lines = []
    for group in groups:
        parts = [pack for pack in packs if pack.jobs[0] in group]
        if len(parts) > 1:
            limit = (
                f"hydra.launcher.pack_size={pack_size}"
                if pack_size is not None
                else f"at most {MOST_MEMBERS} members and {MOST_ROWS} rows each (hydra.launcher.pack_size=N changes it)"
            )
            limit += f", {slots} slots" if slots > 1 else ""
            limit += ", and what fits in memory" if measured else ""
            lines.append(f"{_numbers(group)} make {len(parts)} packs: {limit}")
    return lines


def _numbers(group: Sequence[int]) -> str:
    ordered = sorted(group)
    if len(ordered) == 1:
        return f"job {ordered[0]}"
    if ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"jobs {ordered[0]}-{ordered[-1]}"
    return "jobs " + ", ".join(map(str, ordered))
