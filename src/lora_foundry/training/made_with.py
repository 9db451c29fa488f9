"""A job's ``made_with.json``, written when it begins to train and when its adapter is exported."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_foundry.config.digest import config_digest
from lora_foundry.config.files import write_atomic
from lora_foundry.config.made_with import MadeWith, read_made_with, write_made_with
from lora_foundry.config.streams import STREAMS
from lora_foundry.config.version import code_version
from lora_foundry.data.inventory import write_form
from lora_foundry.training.job_config import read_changes, read_config

if TYPE_CHECKING:
    from pathlib import Path

    from lora_foundry.training.member import Member

INVENTORIES = "data"
"""Folder of a sweep in which the jobs' data sets are told file by file, each once."""


def note_start(member: Member, sweep_dir: Path) -> None:
    """Record what ``member`` trains with, and the files of its data.

    Raises:
        OSError: When a folder cannot be written.
    """
    where = member.provenance
    file = None
    if where.inventory is not None:
        name, text = write_form(where.inventory)
        path = sweep_dir / INVENTORIES / name
        if not path.exists() or path.read_text() != text:
            write_atomic(path, text)
        file = os.path.relpath(path, member.folder)
    digest = config_digest(member.config)
    asked = config_digest(read_config(member.folder, as_asked=True)) if read_changes(member.folder) else digest
    made = MadeWith(
        asked=asked,
        config=digest,
        base=where.base_hash,
        data=where.data_hash,
        inventory=file,
        code=code_version(),
        streams=STREAMS,
        started=time.time(),
    )
    write_made_with(member.folder, made)


def note_end(member: Member) -> None:
    """Record that the adapter was exported.

    Raises:
        OSError: When the folder cannot be written.
    """
    made = read_made_with(member.folder)
    if made is not None:
        write_made_with(member.folder, replace(made, ended=time.time()))
