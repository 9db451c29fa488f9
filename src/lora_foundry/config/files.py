"""Writing files that are either whole or not there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write to a temporary name in the same folder, sync, and rename over ``path``.

    Raises:
        OSError: When the folder cannot be made or written, or the disk is full; ``path`` is untouched then.
    """
    write_all(path.parent, {path.name: content})


def write_all(folder: Path, contents: Mapping[str, bytes | str]) -> None:
    """Write several files of one folder, each as :func:`write_atomic` does; the folder itself is synced once.

    Raises:
        OSError: As there; files named before the one that failed are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _replace(folder / name, content.encode() if isinstance(content, str) else content)
    sync_folder(folder)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    # As any program makes a file: the umask says who may read it, which tempfile's own files pass over.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_torn(folder: Path) -> None:
    """Remove what killed processes left half written below ``folder``; nobody may write there at the same time."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """``value`` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2) + "\n")
