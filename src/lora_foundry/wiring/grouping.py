"""Groups of a job's training images, as the data room finds them, and k-means of latents asks a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_foundry.config.errors import SweepError

if TYPE_CHECKING:
    from lora_foundry.config.schema import JobConfig
    from lora_foundry.data.grouping import Group

BY = ("folder", "tag", "kmeans")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouped:
    """Groups, and what they are of.

    Attributes:
        by: Which of :data:`BY` it was.
        groups: At least two.
        images: How many are trained on in all.
        epoch: Samples of a pass over them.
    """

    by: str
    groups: tuple[Group, ...]
    images: int
    epoch: int


def grouped(config: JobConfig, by: str | None, count: int) -> Grouped:
    """The groups of the images that ``config`` trains on; held-out ones belong to none.

    Args:
        config: Of the job.
        by: One of :data:`BY`; None is folders where there are several, else k-means.
        count: How many groups at most; of k-means just as many.

    Raises:
        SweepError: When there are no two groups, or the data or the base is not sound.
    """
    from lora_foundry.data.checks import check_data
    from lora_foundry.data.grouping import by_folder, by_likeness, by_tag
    from lora_foundry.data.records import DataError
    from lora_foundry.models.protocol import BaseError

    try:
        records = check_data(config.data, count_tokens=None, max_tokens=None).train
        folders = by_folder(records) if by in (None, "folder") else []
        chosen = by or ("folder" if folders else "kmeans")
        if chosen == "kmeans":
            from lora_foundry.tasks.denoising.preparing import latents_of

            groups = by_likeness(records, latents_of(config, records), min(count, len(records)))
        else:
            groups = folders if chosen == "folder" else by_tag(records, count)
    except (DataError, BaseError) as error:
        raise SweepError([str(error)]) from error
    largest = sorted(groups, key=lambda one: -one.count)[:count]
    kept = tuple(one for one in groups if one in largest)
    if len(kept) < 2:
        raise SweepError(
            [f"--by {chosen}: {len(records)} training images have {len(kept)} such groups; {_OTHER[chosen]}"]
        )
    return Grouped(by=chosen, groups=kept, images=len(records), epoch=sum(record.repeats for record in records))


_OTHER = {
    "folder": "put each group in a folder of its own below data.path, or give --by tag or --by kmeans",
    "tag": "a tag is a group where two images and at most half of them have it; or give --by kmeans",
    "kmeans": "give fewer --groups",
}
