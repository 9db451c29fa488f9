"""Groups of training images, each with what ``data.without`` leaves it out by: folders, tags, or what looks alike."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2

from lora_foundry.data.leaving import TAG, is_left_out
from lora_foundry.data.records import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST = 2  # groups, and images of a tag
_LETTERS = 3  # of the shortest word that is a tag
_SHARE = 2  # a tag that more than one in so many images has is no group
_TRIES = 16  # of k-means, from other images each


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Images that are left out together.

    Attributes:
        without: What ``data.without`` has for it.
        count: How many images it has.
    """

    without: tuple[str, ...]
    count: int


def by_folder(records: Sequence[Record]) -> list[Group]:
    """A group each folder, at the first depth at which there are several; none where all lie in one."""
    folders = [PurePath(record.name).parent.parts for record in records]
    for depth in range(1, max(map(len, folders), default=0) + 1):
        found = sorted({folder[:depth] for folder in folders})
        if len(found) >= _FEWEST:
            cut = [folder[:depth] for folder in folders]
            return [
                _folder(own, depth, [r for r, one in zip(records, cut, strict=True) if one == own]) for own in found
            ]
    return []


def _folder(parts: tuple[str, ...], depth: int, records: Sequence[Record]) -> Group:
    """With all below it; of images that lie beside the other folders one by one."""
    if len(parts) < depth:
        return _listed(records)
    return Group(without=(f"{glob.escape('/'.join(parts))}/*",), count=len(records))


def by_tag(records: Sequence[Record], most: int) -> list[Group]:
    """A group each of the most frequent tags that two images and no more than half of them have; groups may overlap.

    Tags are what stands between commas; where no caption has any, words of three letters and more.
    """
    texts = [record.caption for record in records]
    commas = any("," in text for text in texts)
    each = [set(_tags(text, commas=commas)) for text in texts]
    counted = Counter(tag for tags in each for tag in sorted(tags))
    found: dict[frozenset[int], Group] = {}
    for tag, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        pattern = (f"{TAG}{tag}",)
        own = frozenset(place for place, record in enumerate(records) if is_left_out(record, pattern))
        if _FEWEST <= len(own) <= len(records) / _SHARE and len(found) < most:
            found.setdefault(own, Group(without=pattern, count=len(own)))
    return list(found.values())


def _tags(text: str, *, commas: bool) -> Iterator[str]:
    parts = text.split(",") if commas else re.findall(rf"\w{{{_LETTERS},}}", text)
    yield from (" ".join(part.split()).casefold() for part in parts if part.strip())


def by_likeness(records: Sequence[Record], vectors: NDArray[np.float32], count: int) -> list[Group]:
    """Clusters of images by k-means (Lloyd 1982, begun as Arthur & Vassilvitskii 2007), the best of several.

    Args:
        records: n images.
        vectors: What they look like, ``[n, d]``.
        count: How many clusters, at most n.
    """
    best: NDArray[np.int32] | None = None
    least = np.inf
    for seed in range(_TRIES):
        try:
            centres, own = kmeans2(vectors.astype(np.float64), count, minit="++", rng=seed, missing="raise")
        except ClusterError:  # one that no image is nearest to
            continue
        apart = float(np.square(vectors - centres[own]).sum())
        if apart < least:
            best, least = own, apart
    if best is None:
        return []
    clusters = [[record for record, own in zip(records, best, strict=True) if own == place] for place in range(count)]
    return [_listed(own) for own in sorted(clusters, key=lambda own: own[0].name)]


def _listed(records: Sequence[Record]) -> Group:
    return Group(without=tuple(sorted(glob.escape(record.name) for record in records)), count=len(records))
