"""Points of a sweep that were trained with several seeds each: a file may be better by luck, a setting is better."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from lora_foundry.config.swept import SEED, short_name
from lora_foundry.wire.outcomes import JobOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One point with all of its seeds.

    Attributes:
        name: What it sets.
        jobs: A job a seed, in the order of seeds.
    """

    name: str
    jobs: tuple[JobOutcome, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        """Of its jobs: the loss over the base's own."""
        return tuple(job.score for job in self.jobs if job.score is not None)

    @property
    def mean(self) -> float:
        """Over its seeds."""
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float:
        """The standard deviation over its seeds."""
        return statistics.stdev(self.scores)


def settings_of(jobs: Sequence[JobOutcome]) -> tuple[Setting, ...]:
    """The points of finished jobs, where there are several and each has the same two or more seeds; else none."""
    points: dict[tuple[tuple[str, str], ...], dict[str, JobOutcome]] = {}
    for job in jobs:
        rest = tuple(sorted((key, value) for key, value in job.overrides.items() if key != SEED))
        points.setdefault(rest, {})[job.overrides.get(SEED, "")] = job
    seeds = {tuple(sorted(by_seed)) for by_seed in points.values()}
    if len(points) < 2 or len(seeds) > 1 or any(len(one) < 2 for one in seeds) or _repeated(points, jobs):
        return ()
    swept = _swept(list(points))
    return tuple(
        Setting(
            name=", ".join(f"{short_name(key)}={value}" for key, value in rest if key in swept),
            jobs=tuple(job for _, job in sorted(by_seed.items())),
        )
        for rest, by_seed in points.items()
    )


def _repeated(points: dict[tuple[tuple[str, str], ...], dict[str, JobOutcome]], jobs: Sequence[JobOutcome]) -> bool:
    """Whether a point was trained twice with one seed: then it is no seed that tells the two apart."""
    return sum(len(by_seed) for by_seed in points.values()) < len(jobs)


def _swept(points: Sequence[tuple[tuple[str, str], ...]]) -> set[str]:
    """Keys whose values differ between points."""
    values: dict[str, set[str | None]] = {key: set() for rest in points for key, _ in rest}
    for rest in points:
        for key, seen in values.items():
            seen.add(dict(rest).get(key))
    return {key for key, seen in values.items() if len(seen) > 1}
