"""What a worker is told of a job. Imports nothing heavy: it is read before torch is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedJob:
    """One job of a pack.

    Attributes:
        job: Number in the sweep.
        folder: Its folder; the configuration lies in ``.hydra/config.yaml`` there.
        name: Its adapter's name.
        resume: Whether it continues from its newest checkpoint.
    """

    job: int
    folder: Path
    name: str
    resume: bool
