"""Points of a sweep that were trained several times: a file may be better by luck, a setting is better.

A point is repeated with several seeds, which are judged on the same images; or with several folds, each of which is
judged on the images that it did not learn from, so that all of them together are judged once on every image.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lora_foundry.config.swept import SEED, short_name
from lora_foundry.wire.outcomes import FOLD, JobOutcome

_Rest = tuple[tuple[str, str], ...]
_Repeat = tuple[str, str]  # fold and seed
_FEWEST = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One point with all of its repeats.

    Attributes:
        name: What it sets; empty of a sweep's only one.
        jobs: A job a repeat, in the order of folds and of seeds.
        by_image: The loss of every image over the base's mean of all, by the fold that did not learn from it (the mean
            over seeds, where there are several); empty where seeds alone were repeated.
        refit: The job that was trained with it on every image, once that has finished.
    """

    name: str
    jobs: tuple[JobOutcome, ...]
    by_image: tuple[float, ...] = ()
    refit: JobOutcome | None = None

    @property
    def scores(self) -> tuple[float, ...]:
        """Of its jobs: the loss over the base's own."""
        return tuple(job.score for job in self.jobs if job.score is not None)

    @property
    def mean(self) -> float:
        """Over its images, or its seeds."""
        return statistics.fmean(self.by_image or self.scores)

    @property
    def spread(self) -> float:
        """The standard deviation over its images, or its seeds."""
        return statistics.stdev(self.by_image or self.scores)


def settings_of(jobs: Sequence[JobOutcome]) -> tuple[Setting, ...]:
    """The points of a sweep with their repeats; none where points were not repeated alike.

    Of seeds there must be several points, each with the same two or more seeds. Of folds a point may be the only one;
    those that lack a fold that others have are left out.
    """
    scored = [job for job in jobs if job.score is not None]
    points: dict[_Rest, dict[_Repeat, JobOutcome]] = {}
    for job in scored:
        points.setdefault(_rest(job), {})[job.overrides.get(FOLD, ""), job.overrides.get(SEED, "")] = job
    if sum(map(len, points.values())) < len(scored):
        return ()  # a point was trained twice with one seed: then it is no seed that tells the two apart
    names = _names(list(points))
    if any(fold for repeats in points.values() for fold, _ in repeats):
        refits = {_rest(job): job for job in jobs if job.on_every_image and job.state == "FINISHED"}
        return tuple(_folded(points, names, refits))
    repeats = {tuple(sorted(by_repeat)) for by_repeat in points.values()}
    if len(points) < _FEWEST or len(repeats) > 1 or any(len(one) < _FEWEST for one in repeats):
        return ()
    return tuple(Setting(name=names[rest], jobs=_ordered(by_repeat)) for rest, by_repeat in points.items())


def _folded(
    points: Mapping[_Rest, Mapping[_Repeat, JobOutcome]], names: Mapping[_Rest, str], refits: Mapping[_Rest, JobOutcome]
) -> Iterator[Setting]:
    """Those with all folds that there are, each judged on the same rows as the first one's."""
    every = {repeat for by_repeat in points.values() for repeat in by_repeat}
    whole = {rest: by_repeat for rest, by_repeat in points.items() if set(by_repeat) == every}
    judged = None
    for rest, by_repeat in whole.items():
        jobs = _ordered(by_repeat)
        judged = judged or _judged(jobs)
        if len({fold for fold, _ in every}) >= _FEWEST and None not in judged and _judged(jobs) == judged:
            yield Setting(name=names[rest], jobs=jobs, by_image=_pooled(jobs), refit=refits.get(rest))


def _pooled(jobs: Sequence[JobOutcome]) -> tuple[float, ...]:
    """Every image's loss over the base's mean of all, where each fold has it over the base's mean of its own."""
    losses: dict[tuple[str, int], list[float]] = {}
    base: dict[tuple[str, int], float] = {}
    for job in jobs:
        by_item, base_loss = job.by_item, job.base_loss
        if by_item is None or base_loss is None:
            continue
        for place, (own, of_base) in enumerate(zip(by_item.relative, by_item.base, strict=True)):
            image = job.overrides.get(FOLD, ""), place
            losses.setdefault(image, []).append(own * base_loss)
            base[image] = of_base * base_loss
    whole = statistics.fmean(base.values())
    return tuple(statistics.fmean(of_one) / whole for of_one in losses.values())


def _judged(jobs: Sequence[JobOutcome]) -> list[str | None]:
    """On which rows, of each; null where the images were not told."""
    return [None if job.by_item is None or job.base_loss is None else job.by_item.rows for job in jobs]


def _ordered(by_repeat: Mapping[_Repeat, JobOutcome]) -> tuple[JobOutcome, ...]:
    return tuple(job for _, job in sorted(by_repeat.items(), key=lambda one: (len(one[0][0]), one[0])))


def _rest(job: JobOutcome) -> _Rest:
    return tuple(sorted((key, value) for key, value in job.overrides.items() if key not in (SEED, FOLD)))


def _names(points: Sequence[_Rest]) -> dict[_Rest, str]:
    """What tells each point from the others."""
    swept = _swept(points)
    return {rest: ", ".join(f"{short_name(key)}={value}" for key, value in rest if key in swept) for rest in points}


def _swept(points: Sequence[_Rest]) -> set[str]:
    """Keys whose values differ between points."""
    values: dict[str, set[str | None]] = {key: set() for rest in points for key, _ in rest}
    for rest in points:
        for key, seen in values.items():
            seen.add(dict(rest).get(key))
    return {key for key, seen in values.items() if len(seen) > 1}
