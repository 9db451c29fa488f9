"""What each group of training images does to the held-out loss, from members that were trained without one each.

A member without group g has the same seed, noise and places in the epoch as the one with all images, and others in the
places of the group (:mod:`lora_foundry.data.order`). Its effect is ``d_g = L_all - L_g``, the difference of logarithms
of mean losses: above 0 where the loss is lower without the group. It is open by two things. Which images are held out:
the jackknife's error ``i_g`` of a difference that is paired by image (:mod:`lora_foundry.judge.intervals`). And chance
in training: other images in an eighth of the places lead to another adapter, whether the group is good or bad, which
no number of held-out images shows. With S seeds of each member that is how ``d_g`` differs between seeds, the groups'
variances taken together; with one seed, how the *other* groups' ``d`` differ from none, or from their mean where that
is below 0, as less variety makes it. A group that does harm is what stands out among the groups, and so with one seed
a second one hides the first.

Both variances are added, with Welch and Satterthwaite's degrees of freedom. All K intervals hold at once: Student's
quantile at a Kth of the level (Bonferroni). ``python -m bench.removal`` measures how often.

Sources: Ilyas et al., Datamodels (ICML 2022), for removal as what a group does; Welch, Biometrika 34 (1947).

Shape legend: S seeds, n images, K groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from lora_foundry.judge.intervals import LEVEL, Array, Interval, differences

FEWEST_GROUPS = 4
"""With one seed fewer groups say nothing of what is chance."""
_TWO = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What a group of images does.

    Attributes:
        without: What ``data.without`` has for it.
        loss: Without it, over the base's, the mean over seeds.
        interval: What it adds to the loss, in percent of that; above 0 it does harm.
    """

    without: tuple[str, ...]
    loss: float
    interval: Interval

    @property
    def harms(self) -> bool:
        """Whether the loss is lower without it, by more than chance makes."""
        return self.interval.low > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Removals:
    """What groups of images do.

    Attributes:
        loss: With all images, over the base's, the mean over seeds.
        images: How many are held out.
        seeds: How many.
        effects: Of each group, the most harmful first.
    """

    loss: float
    images: int
    seeds: int
    effects: tuple[Effect, ...]


def removals(whole: Array, without: Array, groups: Sequence[tuple[str, ...]]) -> Removals:
    """What groups do, in the order of harm; arguments as those of :func:`effects`.

    Args:
        whole: ``[S, n]``.
        without: ``[S, K, n]``.
        groups: What each is called.

    Raises:
        ValueError: As :func:`effects` has it.
    """
    losses = without.mean((0, 2)).tolist()
    told = [
        Effect(without=group, loss=loss, interval=one)
        for group, loss, one in zip(groups, losses, effects(whole, without), strict=True)
    ]
    seeds, images = whole.shape
    ordered = tuple(sorted(told, key=lambda one: -one.interval.percent))
    return Removals(loss=float(whole.mean()), images=images, seeds=seeds, effects=ordered)


def effects(whole: Array, without: Array) -> tuple[Interval, ...]:
    """What each group adds to the held-out loss, in percent of it; above 0 where the loss is lower without it.

    Args:
        whole: Losses of the member with all images, ``[S, n]``, over whatever is the same for all.
        without: Of those without a group each, ``[S, K, n]``.

    Raises:
        ValueError: When there are too few seeds, groups or images for an interval.
    """
    seeds, groups, images = without.shape
    if images < _TWO or groups < _TWO or (seeds < _TWO and groups < FEWEST_GROUPS):
        msg = (
            f"got {seeds} seed(s), {groups} groups and {images} held-out images, allowed are 2 images, and 2 groups "
            f"with 2 seeds or {FEWEST_GROUPS} with one"
        )
        raise ValueError(msg)
    each, adds = differences(whole, without)  # [S, K], [S, K, n]
    effect = each.mean(0)
    by_images = np.square(adds.mean(0)).sum(-1) / (images * (images - 1))
    by_training, freedom = _between_seeds(each) if seeds >= _TWO else _between_groups(effect)
    both = by_images + by_training
    shared = np.divide(
        both**2,
        by_images**2 / (images - 1) + by_training**2 / freedom,
        out=np.ones_like(both),
        where=both > 0,
    )
    wide = stdtrit(shared, 1 - (1 - LEVEL) / (2 * groups)) * np.sqrt(both)
    return tuple(_interval(d, w) for d, w in zip(effect.tolist(), wide.tolist(), strict=True))


def _between_seeds(each: Array) -> tuple[Array, int]:
    """The variance of a mean over seeds, the same for all groups, and its degrees of freedom."""
    seeds, groups = each.shape
    return np.full(groups, each.var(0, ddof=1).mean() / seeds), groups * (seeds - 1)


def _between_groups(effect: Array) -> tuple[Array, int]:
    """For each group the variance of the others, around nothing or around less."""
    groups = len(effect)
    found = []
    for own in range(groups):
        others = np.delete(effect, own)
        found.append(np.square(others - min(0.0, float(others.mean()))).sum() / (groups - 2))
    return np.array(found), groups - 2


def _interval(difference: float, wide: float) -> Interval:
    percent, low, high = (100 * math.expm1(d) for d in (difference, difference - wide, difference + wide))
    return Interval(percent=percent, low=low, high=high)
