"""Which sweep or job a word means."""

from __future__ import annotations

from pathlib import Path

from src.config.paths import home_path
from src.launch.ledger import SWEEP_FILE, record_of, sweep_dirs


class NotFoundError(ValueError):
    """No sweep and no job is meant by what was given; the message says what there is."""


def find(word: str | None, root: Path) -> tuple[Path, int | None]:
    """The sweep's folder, and the job's number where a job is meant.

    Args:
        word: A sweep's or a job's folder, a sweep's id or its last part, an adapter's name in the newest sweep that
            has it; null takes the newest sweep.
        root: Where sweeps lie.

    Raises:
        NotFoundError: When nothing is meant.
    """
    folders = sweep_dirs(root)
    if word is None:
        if not folders:
            raise NotFoundError(f"got no sweep, and there is none in {root}; allowed is a sweep's or a job's folder")
        return folders[0], None
    path = home_path(word).absolute()
    if path.is_dir():
        return _inside(path, word)
    for folder in folders:
        record = record_of(folder) or {"id": "", "jobs": []}
        if word in (record["id"], record["id"].rsplit("-", 1)[-1]):
            return folder, None
        for entry in record["jobs"]:
            if entry["name"] == word:
                return folder, int(entry["job"])
    known = ", ".join(str((record_of(folder) or {}).get("id")) for folder in folders[:3])
    raise NotFoundError(
        f"got {word!r}, which is no folder, no sweep's id and no adapter's name in {root}"
        f"{f' (the newest are {known})' if known else ''}"
    )


def _inside(path: Path, word: str) -> tuple[Path, int | None]:
    sweep = next((folder for folder in (path, *path.parents) if (folder / SWEEP_FILE).is_file()), None)
    record = record_of(sweep) if sweep is not None else None
    if sweep is None or record is None:
        raise NotFoundError(
            f"got {word!r}, which holds no sweep; allowed is a folder such as multirun/<date>/<time>-<id>"
        )
    if sweep == path:
        return sweep, None
    for entry in record["jobs"]:
        if (sweep / entry["dir"]).resolve() == path.resolve():
            return sweep, int(entry["job"])
    raise NotFoundError(f"got {word!r}, which is no job of the sweep in {sweep}")
