"""By how much the best of several members is better, with intervals that hold although it was selected.

Members are judged on the same images, so their differences are paired. Losses of images differ by factors, and so do
members' on one image: what is compared is the logarithm of the mean loss, ``L_m = log mean_i x_im``, whose differences
are percents. By the delta method an image adds ``u_im = x_im / mean_i x_im - 1`` to it. An image of a share ``h_i`` of
the whole loss hides so much of what it adds, so that over n images

    d_m = L_m - L_best,    se_m^2 = sum_i (u_i,best - u_im)^2 / (1 - h_i)^2 / n^2,    T_m = d_m / se_m,

which is the jackknife's variance, n / (n - 1) times.

The best was chosen by the same images, which makes it look better than it is: Student's quantile is too small for
``T_m``, the more so the more members there are, while quantiles for all pairs (Tukey) are too large where the best
stands out. The quantile is therefore computed for the very members at hand, as that of ``max_m |T_m - its truth|`` over
simulated sweeps of normal ``u`` with their covariance, in each of which the best is *selected anew*. In those sweeps
the members that the images cannot tell from the best are as good as it, and the others as much worse as they were
measured. Which those are is told by a quantile of a first round, in which all are equal.

So all intervals of a sweep hold at once in 95 of 100 sweeps: ``python -m bench.intervals`` measures it beside other
methods, docs/search.md has its table. Sources: MacKinnon & White, J. Econometrics 29 (1985), for the error (HC3); Hsu,
Multiple Comparisons (1996), for comparing with the best; Andrews & Soares, Econometrica 78 (2010), for what is not told
apart; Bartlett, Proc. R. Soc. Edinburgh 53 (1933), for drawing covariances.

Shape legend: n images, M members, r rank of their covariance, B simulated sweeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

LEVEL = 0.95
POWER = 0.8
"""With which probability as many images as are said to would show a difference of the size that was measured."""
_APART = 0.99
"""Members are equal to the best unless so many sweeps of equals have none as far from it."""
_SWEEPS = 4000
_AT_ONCE = 2_000_000  # numbers of a part of the simulation: 16 MB
_ROUNDS = 4
_MOST = 1_000_000
_FEWEST = 2
_NOTHING = 1e-10  # of the largest variance: what is left of none in 64 bit

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """One over another, in percent: below 0 where its loss is the lower.

    Attributes:
        percent: As measured.
        low: The lower end.
        high: The upper end.
    """

    percent: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The best of M members against each of them.

    Attributes:
        best: Its place.
        against: M intervals of the best over each; over itself it is all 0.
        images: n.
        tied: The members that the images cannot tell from the best, the nearest first.
    """

    best: int
    against: tuple[Interval, ...]
    images: int
    tied: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Differences:
    """What M members are compared by, of n images.

    Attributes:
        images: n.
        best: The place of the best.
        worse: By how much each is worse: differences of logarithms ``[M]``, at least 0.
        error: Of ``worse``, ``[M]``.
        spread: ``G [r, M]`` with the covariance ``G' G`` of what an image adds to the members' logarithms.
    """

    images: int
    best: int
    worse: Array
    error: Array
    spread: Array

    @classmethod
    def of(cls, losses: Array, best: int | None) -> _Differences:
        """Of ``[n, M]``."""
        images, means = len(losses), losses.mean(0)
        level = np.log(means)
        place = int(level.argmin()) if best is None else best
        parts = _added(losses / means)
        error = np.sqrt(((parts[:, [place]] - parts) ** 2).sum(0) / (images * (images - 1)))
        worse = np.maximum(level - level[place], 0.0)  # a best that was settled may be one by rounding alone
        return cls(images=images, best=place, worse=worse, error=error, spread=_factor(parts))

    @property
    def distance(self) -> Array:
        """How many errors each is worse, ``[M]``."""
        return _over(self.worse, self.error)

    def apart(self) -> Array:
        """``worse`` of the members that are farther from the best than equals are, 0 of the others: ``[M]``."""
        equal = _quantile(self.spread, np.zeros_like(self.worse), self.images, _APART)
        return np.where(self.distance <= equal, 0.0, self.worse)


def compare(losses: Array, best: int | None = None) -> Comparison | None:
    """The best of members and how sure that is.

    Args:
        losses: ``[n, M]``, of the same n images; all finite.
        best: Which it is, where that was settled already by the same means; None takes the lowest.

    Returns:
        None where nothing can be said: of fewer than two images or members, or of a member without any loss.
    """
    if min(losses.shape) < _FEWEST or not (losses.mean(0) > 0).all():
        return None
    found = _Differences.of(losses, best)
    wide = _quantile(found.spread, found.apart(), found.images) * found.error
    nearest = np.argsort(found.worse, kind="stable").tolist()
    return Comparison(
        best=found.best,
        against=tuple(_interval(-d, w) for d, w in zip(found.worse.tolist(), wide.tolist(), strict=True)),
        images=found.images,
        tied=tuple(place for place in nearest if place != found.best and found.worse[place] <= wide[place]),
    )


def needed(losses: Array, found: Comparison) -> int | None:
    """How many images would show a difference as large as that to the nearest of those that are tied.

    ``sqrt(n) d / sd`` has to reach the quantile, and :data:`POWER` of the normal distribution beyond it.

    Args:
        losses: ``[n, M]``, as compared.
        found: What came of it.

    Returns:
        None where nothing is tied, there is no difference, or more than :data:`_MOST` would be needed.
    """
    own = _Differences.of(losses, found.best)
    distance = float(own.distance[found.tied[0]]) if found.tied else 0.0
    if distance <= 0:
        return None
    apart, beyond, count = own.apart(), NormalDist().inv_cdf(POWER), own.images
    for _ in range(_ROUNDS):
        wanted = own.images * ((_quantile(own.spread, apart, count) + beyond) / distance) ** 2
        if wanted > _MOST:
            return None
        count = max(math.ceil(wanted), own.images + 1)
    return count


def differences(one: Array, others: Array) -> tuple[Array, Array]:
    """By how much ``one`` is above ``others``, and what each image adds to that.

    Args:
        one: Losses ``[S, n]``, all above 0 in the mean.
        others: Of K others on the same images, ``[S, K, n]``.

    Returns:
        Differences of logarithms of means ``[S, K]``, and what images add to them, as the jackknife has it:
        ``[S, K, n]``. The square sum of those over ``n (n - 1)`` is the variance.
    """
    members = np.concatenate([one[:, None], others], axis=1)  # [S, 1 + K, n]
    means = members.mean(-1, keepdims=True)
    levels = np.log(means[..., 0])
    parts = np.stack([_added(own.T).T for own in members / means])
    return levels[:, :1] - levels[:, 1:], parts[:, :1] - parts[:, 1:]


def _interval(difference: float, wide: float) -> Interval:
    """Of a difference of logarithms."""
    percent, low, high = (100 * math.expm1(d) for d in (difference, difference - wide, difference + wide))
    return Interval(percent=percent + 0.0, low=low + 0.0, high=high + 0.0)


def _added(shares: Array) -> Array:
    """What images add to the members' logarithms, ``[n, M]`` of ``x_im / mean_i x_im``, with what leverage hides of it.

    An image of a share h of the loss pulls the means towards itself, so that ``1 - h`` is left of what it adds.
    """
    images = len(shares)
    leverage = shares.mean(1, keepdims=True) / images
    grown = (shares - 1) / (1 - leverage) * math.sqrt((images - 1) / images)
    return grown - grown.mean(0)


def _factor(parts: Array) -> Array:
    """``G [r, M]`` with the members' covariance ``G' G``, of what images add to their logarithms ``[n, M]``.

    Few images have members vary together that do not: covariances are made smaller by the share of them that is chance,
    by how much they differ from image to image (Schaefer & Strimmer, Stat. Appl. Genet. Mol. Biol. 4 (2005)). What all
    members have in common is left out first, since no difference has it.
    """
    images, members = parts.shape
    own = parts - parts.mean(1, keepdims=True)
    covariance = own.T @ own / (images - 1)
    doubt = (np.square(own).T @ np.square(own) - images * (own.T @ own / images) ** 2) * images / (images - 1) ** 3
    between = ~np.eye(members, dtype=bool)
    sure = float(np.square(covariance[between]).sum())
    chance = min(1.0, float(doubt[between].sum()) / sure) if sure > 0 else 0.0
    sizes, axes = np.linalg.eigh(np.where(between, (1 - chance) * covariance, covariance))
    kept = sizes > sizes[-1] * _NOTHING
    return np.sqrt(sizes[kept])[:, None] * axes[:, kept].T


def _over(difference: Array, error: Array) -> Array:
    """The quotient; 0 of members that are the same on every image."""
    return np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)


def _quantile(spread: Array, apart: Array, images: int, level: float = LEVEL) -> float:
    """The quantile of ``max_m |T_m|`` over sweeps of ``images`` images in which member m is worse by ``apart[m]``.

    Args:
        spread: ``G [r, M]`` with the members' covariance ``G' G``.
        apart: ``[M]``.
        images: n.
        level: Which quantile.
    """
    rank, members = spread.shape
    if members == _FEWEST:  # whichever of two is selected, the other is as far away
        return float(stdtrit(images - 1, 0.5 + level / 2))
    chunk = max(1, min(_SWEEPS, _AT_ONCE // (max(1, min(rank, images - 1)) * members)))
    parts = range(-(-_SWEEPS // chunk))
    largest = [_largest(spread, apart, images, *_drawn(rank, images, chunk, part)) for part in parts]
    return float(np.quantile(largest, level))


@lru_cache(maxsize=4)
def _drawn(rank: int, images: int, sweeps: int, part: int) -> tuple[Array, Array]:
    """Errors of means ``[B, r]`` and roots of scatters ``[B, k, r]`` of n rows of r standard normals, k at most n - 1.

    They are the same whenever they are asked for: what is told twice is told alike.
    """
    draw = np.random.default_rng(part)
    if images - 1 < rank:
        root = draw.standard_normal((sweeps, images - 1, rank))
    else:
        root = np.triu(draw.standard_normal((sweeps, rank, rank)), 1)  # by Bartlett
        places = np.arange(rank)
        root[:, places, places] = np.sqrt(draw.chisquare(images - 1 - places, (sweeps, rank)))
    return draw.standard_normal((sweeps, rank)) / math.sqrt(images), root


def _largest(spread: Array, apart: Array, images: int, means: Array, root: Array) -> Array:
    """``[B]``: the largest ``|T_m|`` of each simulated sweep."""
    off = means @ spread  # [B, M]
    best = (apart + off).argmin(1)
    measured = root @ spread  # [B, k, M]
    measured -= np.take_along_axis(measured, best[:, None, None], 2)
    error = np.sqrt(np.einsum("bkm,bkm->bm", measured, measured) / (images * (images - 1)))
    return np.abs(_over(off - np.take_along_axis(off, best[:, None], 1), error)).max(1)
