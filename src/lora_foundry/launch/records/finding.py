"""Which sweep or job a word means."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lora_foundry.config.errors import SweepError
from lora_foundry.config.paths import home_path
from lora_foundry.launch.records.record import is_sweep, read_sweep, sweep_dirs


def add_root(parser: argparse.ArgumentParser) -> None:
    """``--root``, the same for every command that looks for sweeps; one that is given has to be there."""
    parser.add_argument(
        "--root", type=_root, default=Path("multirun"), metavar="DIR", help="where sweeps lie (default: multirun)"
    )


def root_words(root: Path) -> list[str]:
    """What a printed command needs so that it looks in the same place."""
    return [] if root == Path("multirun") else ["--root", str(root)]


def _root(text: str) -> Path:
    folder = home_path(text)
    if not folder.is_dir():
        msg = f"got {text!r}, which is no folder; allowed is one that sweeps lie in, such as multirun"
        raise argparse.ArgumentTypeError(msg)
    return folder


class NotFoundError(ValueError):
    """No sweep and no job is meant by what was given; the message says what there is."""


def find(word: str | None, root: Path) -> tuple[Path, int | None]:
    """The sweep's folder, and the job's number where a job is meant.

    Args:
        word: A sweep's or a job's folder, a sweep's id, its last part or its folder's name, an adapter's name in the
            newest sweep that has it; null takes the newest sweep.
        root: Where sweeps lie.

    Raises:
        NotFoundError: When nothing is meant.
        SweepError: When a job is meant and its sweep's record cannot be read.
    """
    folders = sweep_dirs(root)
    if word is None:
        if not folders:
            raise NotFoundError(f"got no sweep, and there is none in {root}; allowed is a sweep's or a job's folder")
        return folders[0], None
    path = Path(os.path.normpath(home_path(word).absolute()))
    if path.is_dir() or (os.sep in word and any(map(is_sweep, path.parents))):  # or a job's folder that was deleted
        return _inside(path, word)
    known: list[str] = []
    for folder in folders:
        try:
            record = read_sweep(folder)
        except SweepError:
            continue  # it has no id and no names that could be meant
        known.append(record.id)
        if word in (record.id, record.id.rsplit("-", 1)[-1], folder.name):
            return folder, None
        for entry in record.jobs:
            if entry.name == word:
                return folder, entry.job
    newest = f" (the newest are {', '.join(known[:3])})" if known else ""
    raise NotFoundError(f"got {word!r}, which is no folder, no sweep's id and no adapter's name in {root}{newest}")


def _inside(path: Path, word: str) -> tuple[Path, int | None]:
    sweep = next((folder for folder in (path, *path.parents) if is_sweep(folder)), None)
    if sweep is None:
        raise NotFoundError(
            f"got {word!r}, which holds no sweep; allowed is a folder such as multirun/<date>/<time>-<id>"
        )
    if sweep == path:
        return sweep, None
    for entry in read_sweep(sweep).jobs:
        if (sweep / entry.dir).resolve() == path.resolve():
            return sweep, entry.job
    raise NotFoundError(f"got {word!r}, which is no job of the sweep in {sweep}")
