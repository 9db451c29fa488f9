"""What runs are called: what was swept, since that is what tells them apart in a table and in a legend."""

from __future__ import annotations

from collections import Counter

from lora_foundry.config.swept import in_short, short_names, swept_keys
from lora_foundry.tracking.trackfile import PARENT, TrackFile

BEST = " (best)"
"""What the winner's name ends with, once the sweep has ended."""
_NOT_TOLD = ("name", "resume", "sweep")


def names_of(track: TrackFile) -> dict[str, str]:
    """Names of a sweep's runs by job number, the sweep's own under ``parent``: ``rank=8 lr=1e-3``, ``rank x lr ...``.

    Where nothing was swept a job has its adapter's name; jobs that are swept alike have their numbers, too.
    """
    keys = short_names([key for key in swept_keys([job.overrides for job in track.jobs.values()]) if _is_told(key)])
    names = {
        index: " ".join(
            f"{short}={in_short(job.overrides[key])}" for key, short in keys.items() if key in job.overrides
        )
        or job.name
        for index, job in track.jobs.items()
    }
    alike = Counter(names.values())
    told = {index: f"{name} #{index}" if alike[name] > 1 else name for index, name in names.items()}
    return {**told, PARENT: track.run_name or _of_sweep(track, list(keys.values()))}


def _is_told(key: str) -> bool:
    return key not in _NOT_TOLD


def _of_sweep(track: TrackFile, swept: list[str]) -> str:
    """With the sweep's id, which begins with its date: the same is swept again and again."""
    what = " x ".join(swept) if swept else next((job.name for job in track.jobs.values()), "")
    return f"{what} {track.sweep}".strip()
