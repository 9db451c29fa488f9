"""A sweep's records as the report is told them: the report's room reads no records, and the launcher no report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.config.logged import RELATIVE
from lora_foundry.config.quoting import override
from lora_foundry.config.swept import SEED, swept_keys
from lora_foundry.judge.verdict import spreads, verdict_of
from lora_foundry.launch.records.ledger import Sweep, sweep_at
from lora_foundry.launch.records.reading import measured, tagged
from lora_foundry.launch.records.search import is_search
from lora_foundry.launch.records.stored_jobs import own_words, stored_sweeper, train_again
from lora_foundry.report.told import Command, Memory, ReportJob, ReportSweep, Searched, Setting
from lora_foundry.wire.outcomes import FOLD

if TYPE_CHECKING:
    from lora_foundry.launch.records.state import JobState
    from lora_foundry.wire.events import MetricsEvent, TagsEvent
    from lora_foundry.wire.outcomes import JobOutcome

_NAMES_A_SWEEP = "sweep"
_LONGER = 2
_MEASURED, _PREDICTED = "memory.measured_gib", "memory.predicted_gib"  # the tags of the worker
_TREND = 3


def told_of(sweep_dir: Path, *, ended: bool = False) -> ReportSweep:
    """All that a report says of a sweep, but for its pictures.

    Args:
        sweep_dir: Its folder.
        ended: Whether whoever works in it has nothing left to do but its end.

    Raises:
        SweepError: When it cannot be read, or a newer version of this program wrote it.
    """
    sweep = sweep_at(sweep_dir)
    if ended:
        sweep = replace(sweep, running=False)
    outcomes = sweep.state.outcomes(sweep_dir)
    verdict = verdict_of(outcomes)
    keys = swept_keys([job.stored.overrides for job in sweep.jobs])
    best = None if verdict is None else sweep.state.jobs[verdict.job]
    return ReportSweep(
        id=sweep.stored.id,
        command=sweep.stored.command,
        cwd=sweep.stored.cwd,
        created=sweep.stored.created,
        running=sweep.running,
        keys=keys,
        jobs=tuple(_job(job, sweep.word(job), keys) for job in sweep.jobs),
        verdict=verdict,
        settings=_settings(outcomes),
        curves=curves_of(measured(sweep_dir)),
        commands=tuple(_commands(sweep, best if best is not None else _only(sweep.jobs))),
        hints=tuple(beyond(best, sweep.jobs, keys)) if best is not None and not is_search(sweep_dir) else (),
        searched=_searched(sweep),
        memory=_memory(sweep.jobs, tagged(sweep_dir)),
    )


def beyond(best: JobState, jobs: Sequence[JobState], keys: Sequence[str]) -> Iterable[Command]:
    """What lies past the edge of what was tried, for each key whose mean loss falls over three values up to it.

    Of a grid only, where the best job has the last value and means are of the same points: nothing is guessed from two.
    """
    for key in keys:
        tried = {_number(job.stored.overrides.get(key)) for job in jobs}
        if key in (SEED, FOLD) or None in tried:
            continue
        for values in (sorted(filter(None, tried)), sorted(filter(None, tried), reverse=True)):
            last = values[-_TREND:]
            means = _means(key, last, jobs)
            falls = len(last) == _TREND and bool(means) and all(one > other for one, other in pairwise(means))
            if falls and _number(best.stored.overrides[key]) == last[-1]:
                further = _further(last[-2], last[-1], whole=all(value.is_integer() for value in values))
                if further is not None:
                    yield _tried_on(best, key, last, further)


def _tried_on(best: JobState, key: str, last: Sequence[float], further: float) -> Command:
    words = {**own_words(best.stored), key: f"{last[-1]:g},{further:g}"}
    which = "largest" if last[-1] > last[-2] else "smallest"
    return Command(
        about=f"the best has the {which} {key} that was tried, {last[-1]:g}, and the mean loss falls up to it",
        line=command_line("train", "-m", *(f"{name}={value}" for name, value in words.items())),
    )


def _means(key: str, values: Sequence[float], jobs: Sequence[JobState]) -> list[float]:
    """The mean loss over the base's of each value, over the points that finished with all of them; none without one."""
    points: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    for job in jobs:
        value, rest = _number(job.stored.overrides.get(key)), {**job.stored.overrides, key: ""}
        if job.score is not None and value is not None:
            points.setdefault(tuple(sorted(rest.items())), {})[value] = job.score
    whole = [scores for scores in points.values() if set(values) <= set(scores)]
    return [statistics.fmean(scores[value] for scores in whole) for value in values] if whole else []


def _number(text: str | None) -> float | None:
    """A number above 0; null for whatever else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _further(before: float, last: float, *, whole: bool) -> float | None:
    """As far again, by the same factor; null where that is no other value."""
    value = float(f"{last * last / before:.3g}")
    value = float(round(value)) if whole else value
    return value if value > 0 and value != last else None


def _searched(sweep: Sweep) -> Searched | None:
    if not is_search(sweep.dir):
        return None
    from lora_foundry.search.found import found_of  # Optuna, which no grid waits for

    options = stored_sweeper([sweep.dir / job.stored.dir for job in sweep.jobs])
    try:
        found = found_of(sweep.dir, sweep.stored.id, options)
    except SweepError as error:
        return Searched(objectives=(), directions=(), told={}, front=(), importance={}, trouble=error.problems[0])
    if found is None:
        return None
    return Searched(
        objectives=found.objectives,
        directions=found.directions,
        told=found.told,
        front=found.front,
        importance=found.importance,
    )


def _memory(jobs: Sequence[JobState], events: Iterable[TagsEvent]) -> tuple[Memory, ...]:
    """What the workers told last of each pack that ended as it began."""
    names = {job.stored.job: job.stored.name for job in jobs}
    told: dict[int, tuple[float | None, float]] = {}
    for event in events:
        measured_gib, predicted_gib = event.values.get(_MEASURED), event.values.get(_PREDICTED)
        if isinstance(measured_gib, float) and event.job in names:
            told[event.job] = (predicted_gib if isinstance(predicted_gib, float) else None, measured_gib)
    packs: dict[tuple[str, float | None, float], list[str]] = {}
    for job in jobs:
        if job.stored.job in told:
            packs.setdefault((job.stored.pack, *told[job.stored.job]), []).append(job.stored.name)
    return tuple(
        Memory(names=tuple(together), predicted_gib=predicted, measured_gib=taken)
        for (_, predicted, taken), together in packs.items()
    )


def curves_of(events: Iterable[MetricsEvent]) -> dict[str, dict[int, list[tuple[int, float]]]]:
    """Metric to job to what was measured, those of validations first; what is told again after a resume counts."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for event in events:
        for name, value in event.values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(name, {}).setdefault(event.job, {})[event.samples] = float(value)
    ordered = sorted(found, key=lambda name: (name != RELATIVE, not name.startswith("val/"), name))
    return {name: {job: sorted(points.items()) for job, points in sorted(found[name].items())} for name in ordered}


def _job(job: JobState, word: str, keys: Sequence[str]) -> ReportJob:
    told = job.summary if job.state == "FINISHED" else None
    return ReportJob(
        job=job.stored.job,
        name=job.stored.name,
        state=word,
        values={key: job.stored.overrides[key] for key in keys if key in job.stored.overrides},
        loss=None if told is None else told.loss,
        relative=None if told is None else told.compared,
        best_step=None if told is None else told.best_step,
        size=None if told is None else told.bytes,
        seconds=None if told is None else told.seconds,
        memory_gib=job.memory_gib,
        file=None if told is None else told.file_to_keep,
        step=job.step,
        total=job.total,
        error=job.error,
        note="; ".join(_notes(job)) or None,
    )


def _notes(job: JobState) -> list[str]:
    early = job.summary.stopped_early if job.summary is not None and job.state == "FINISHED" else None
    return [line for line in (None if job.lineage is None else job.lineage.words, early) if line is not None]


def _settings(outcomes: Sequence[JobOutcome]) -> tuple[Setting, ...]:
    return tuple(
        Setting(name=one.name, jobs=tuple(job.job for job in one.jobs), mean=one.mean, spread=one.spread)
        for one in spreads(outcomes)
    )


def _only(jobs: Sequence[JobState]) -> JobState | None:
    """The job of a sweep of one, once it finished."""
    return jobs[0] if len(jobs) == 1 and jobs[0].state == "FINISHED" else None


def _alone(sweep: Sweep, job: JobState) -> bool:
    """Whether a job's own words train it: those of a search that is a named sweep would begin the search anew.

    And a fork was trained with other settings before it.
    """
    return job.stored.fork is None and not (is_search(sweep.dir) and _NAMES_A_SWEEP in job.stored.overrides)


def _commands(sweep: Sweep, best: JobState | None) -> Iterable[Command]:
    """What may be typed next: of the winner, and of what did not end."""
    if best is not None:
        name, folder = best.stored.name, sweep.dir / best.stored.dir
        steps = None if best.summary is None else best.summary.steps
        if steps:
            longer = [override("resume", folder), override("trainer.max_steps", _LONGER * steps)]
            yield Command(about=f"train {name} on to twice its {steps} steps", line=command_line("train", *longer))
        if _alone(sweep, best):
            yield Command(about=f"train {name} again, from its beginning", line=train_again(best.stored))
    words = {sweep.word(job) for job in sweep.jobs}
    if "FAILED" in words and not sweep.running:
        yield Command(about="try failed jobs again", line=command_line("retry", sweep.dir))
    if words & {"LOST", "KILLED"} and not sweep.running:
        yield Command(about="go on with what was left", line=command_line("resume", sweep.dir))
