"""``made_with.json`` in a job's folder: what decided its adapter. The worker writes it, resuming compares it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from lora_foundry.config.files import write_json
from lora_foundry.config.stored import StoredError, has, is_number, is_text, is_whole, or_null, read_json

FILE = "made_with.json"
FORMAT = 1
_FIELDS = {
    **dict.fromkeys(("asked", "config", "base", "data", "code"), is_text),
    **{"streams": or_null(is_whole), "inventory": or_null(is_text), "started": is_number, "ended": or_null(is_number)},
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MadeWith:
    """What a job trains with.

    Attributes:
        asked: Digest of the configuration as it was asked for.
        config: Digest of the configuration that trained: another one where a shortage of memory changed it.
        base: Content hash of the base.
        data: Content hash of the data and its transform.
        streams: Version of the random streams; null in files that are older than the second.
        inventory: The data's files, one by one: a path that starts from the job's folder; null where none was taken.
        code: The code's commit or version; recorded, never compared.
        started: Unix seconds of the latest start.
        ended: Unix seconds of the end; null until the adapter was exported.
    """

    asked: str
    config: str
    base: str
    data: str
    inventory: str | None
    code: str
    started: float
    ended: float | None = None
    streams: int | None = None

    def inventory_file(self, job_dir: Path) -> Path | None:
        """Where the inventory lies now."""
        return None if self.inventory is None else Path(os.path.normpath(job_dir / self.inventory))


def write_made_with(job_dir: Path, made: MadeWith) -> None:
    """Record it, atomically.

    Raises:
        OSError: When the folder cannot be written.
    """
    write_json(job_dir / FILE, {"format": FORMAT, **dataclasses.asdict(made)})


def read_made_with(job_dir: Path) -> MadeWith | None:
    """What was recorded; None for a job of another version, one that never began, and what cannot be read."""
    try:
        values: Any = read_json(job_dir / FILE)
    except StoredError:
        return None
    if not has(values, _FIELDS) or values.get("format") != FORMAT:
        return None
    return MadeWith(**{name: values.get(name) for name in _FIELDS})
