"""``search.json``: what a sweep that is a search goes on with, once its launcher is gone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_foundry.config.errors import FORMAT
from lora_foundry.config.files import write_json
from lora_foundry.launch.records.record import read_record
from lora_foundry.wire.fields import Form

FILE = "search.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSearch:
    """A search's record in its sweep's folder.

    Attributes:
        format: The number of the file's format.
        words: The command line that began it, behind ``train``.
    """

    format: object
    words: tuple[str, ...]


_FORM = Form(StoredSearch)


def write_search(sweep_dir: Path, words: list[str]) -> None:
    """Write it.

    Raises:
        OSError: When it cannot be written.
    """
    write_json(sweep_dir / FILE, _FORM.written(StoredSearch(format=FORMAT, words=tuple(words))))


def is_search(sweep_dir: Path) -> bool:
    """Whether a sweep is a search."""
    return (sweep_dir / FILE).exists()


def read_search(sweep_dir: Path) -> StoredSearch:
    """What :func:`write_search` wrote.

    Raises:
        SweepError: When it cannot be read, or a newer version of this program wrote it.
    """
    return read_record(sweep_dir / FILE, _FORM, "no record of a search; restore it to go on with the search")
