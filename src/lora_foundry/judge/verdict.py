"""Which adapter of a sweep to keep, in one sentence with numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lora_foundry.judge.intervals import Comparison, Interval, compare, needed
from lora_foundry.judge.ranking import best_of
from lora_foundry.judge.settings import Setting, settings_of
from lora_foundry.wire.outcomes import FOLD, JobOutcome
from lora_foundry.wire.verdict import Against, Verdict

_BEFORE = "images"  # when no task said what its items are, there was but one
_WIDE, _FINE = 10.0, 0.1  # percents: from here on without a decimal; below it with two


def verdict_of(outcomes: Sequence[JobOutcome]) -> Verdict | None:
    """The best finished job of a sweep, and how sure that is.

    Jobs are compared image by image where they were judged on the same rows. Where each point was trained with several
    seeds, points are compared, seed by seed: a file may be better by luck. Where folds were trained, too, over all
    images; what is kept then is the job on every image, where there is one.

    Returns:
        None where no job finished with a loss, or there is but one job.
    """
    ordered = sorted(outcomes, key=lambda one: one.job)
    if any(FOLD in one.overrides for one in ordered):
        return _of_folds(settings_of(ordered))
    jobs = [one for one in ordered if one.score is not None]
    best = best_of(jobs)
    if best is None or len(outcomes) < 2:
        return None
    settings = settings_of(jobs)
    if settings:
        losses = np.array([one.scores for one in settings]).T  # [seeds, points]
        names, place, of = [one.name for one in settings], None, "seeds"
    else:
        paired = [one for one in jobs if _is_paired(one, best)]
        losses = np.array([one.by_item.relative for one in paired if one.by_item is not None]).T  # [images, jobs]
        names, place, of = [one.name for one in paired], paired.index(best) if paired else None, _called(best)
    found = compare(losses, place) if len(names) > 1 else None
    if found is None:
        return _with_check(_unsure(best, alone=len(jobs) == 1), best)
    kept = (best_of(settings[found.best].jobs) if settings else best) or best
    return _with_check(_told(kept, found, names, of, needed(losses, found)), kept)


def spreads(outcomes: Sequence[JobOutcome]) -> tuple[Setting, ...]:
    """The points of a sweep that were trained with the same several seeds or folds each; none where they were not."""
    return settings_of(outcomes)


def _with_check(verdict: Verdict, kept: JobOutcome) -> Verdict:
    """What its loss is where it was not chosen by it stands beside what it was chosen by."""
    told = None if kept.summary is None else kept.summary.val_loss_rel_check
    if told is None:
        return verdict
    beyond = f"on {_called(kept)} that it was not chosen by: {told:.3f} of the base's loss"
    return replace(verdict, sentence=f"{verdict.sentence}; {beyond}")


def _of_folds(settings: Sequence[Setting]) -> Verdict | None:
    """Settings over all images; None where none has all folds."""
    if not settings:
        return None
    losses, names = np.array([one.by_image for one in settings]).T, [one.name for one in settings]
    found = compare(losses) if len(settings) > 1 else None
    best = settings[0 if found is None else found.best]
    kept, how = best.refit or best.jobs[0], f", by {len({one.overrides[FOLD] for one in best.jobs})} folds"
    advice = "" if best.refit else "; data.fold=all trains it on every image"
    if found is not None:
        told = _told(kept, found, names, _called(best.jobs[0]), needed(losses, found))
        return replace(told, sentence=f"{told.sentence}{how}{advice}")
    return Verdict(
        job=kept.job,
        name=kept.name,
        file=kept.file_to_keep,
        sentence=f"{in_words(best)}{how}{advice}",
        sure=False,
        count=len(best.by_image),
        of=_called(best.jobs[0]),
        against=(),
    )


def in_words(one: Setting) -> str:
    """What folds say of a setting."""
    named = f"{one.name}: " if one.name else ""
    counted = f"{len(one.by_image)} {_called(one.jobs[0])}"
    return f"{named}{one.mean:.3f} of the base's loss over {counted} (spread {one.spread:.3f})"


def _called(one: JobOutcome) -> str:
    """What the items are that a job was judged on."""
    return (None if one.by_item is None else one.by_item.called) or _BEFORE


def _is_paired(one: JobOutcome, best: JobOutcome) -> bool:
    own, of_best = one.by_item, best.by_item
    if own is None or of_best is None:
        return False
    return own.rows == of_best.rows and len(own.relative) == len(of_best.relative)


def _told(best: JobOutcome, found: Comparison, names: Sequence[str], of: str, enough: int | None) -> Verdict:
    others = sorted((place for place in range(len(names)) if place != found.best), key=_nearness(found.against))
    return Verdict(
        job=best.job,
        name=best.name,
        file=best.file_to_keep,
        sentence=sentence(found, names, of, enough),
        sure=not found.tied,
        count=found.images,
        of=of,
        against=tuple(_against(names[place], found.against[place]) for place in others),
    )


def sentence(found: Comparison, names: Sequence[str], of: str, enough: int | None) -> str:
    """What people are told of a comparison.

    Args:
        found: The comparison.
        names: Of its members.
        of: What it rests on: ``seeds``, or what the task calls an item, in the plural (``images``).
        enough: How many of those would show the difference; None where no number would.
    """
    best = names[found.best]
    if not found.tied:
        rival = min((place for place in range(len(names)) if place != found.best), key=_nearness(found.against))
        one, beyond = found.against[rival], f" over {found.images} seeds" if of == "seeds" else ""
        return f"keep {best}: {_percent(one.percent, one)} % {_ends(one)} against {names[rival]}{beyond}"
    others = len(found.tied) - 1
    more = f" or {others} other{'s' * (others > 1)}" if others else ""
    would = "no number would" if enough is None else f"about {_about(enough)} would"
    return f"no difference that {found.images} {of} can show between {best} and {names[found.tied[0]]}{more}; {would}"


def _nearness(against: Sequence[Interval]) -> Callable[[int], float]:
    return lambda place: -against[place].percent


def _unsure(best: JobOutcome, *, alone: bool) -> Verdict:
    why = "losses item by item were not kept" if best.by_item is None else "no other was judged on the same rows"
    lowest = f"{best.name} has the lowest loss over the base's; how sure that is cannot be said, since {why}"
    return Verdict(
        job=best.job,
        name=best.name,
        file=best.file_to_keep,
        sentence=f"keep {best.name}: no other has finished" if alone else lowest,
        sure=False,
        count=None,
        of=_called(best),
        against=(),
    )


def _against(name: str, one: Interval) -> Against:
    return Against(name=name, percent=one.percent, low=one.low, high=one.high)


def _ends(one: Interval) -> str:
    return f"[{_percent(one.low, one)}, {_percent(one.high, one)}]"


def _percent(value: float, of: Interval) -> str:
    """With as many digits as the interval's width deserves; one more where they would hide on which side of 0 it is."""
    width = of.high - of.low
    digits = 0 if width >= _WIDE else 1 if width >= _FINE else 2
    for told in (f"{value:.{digits}f}", f"{value:.{digits + 1}f}"):
        if float(told) != 0:
            return told
    return f"{0:.{digits}f}"


def _about(count: int) -> str:
    """Two digits."""
    return f"{float(f'{count:.1e}'):,.0f}"
