"""Traced steps that tests share: a trace takes seconds, and most tests that need one do not test it.

They are kept below pytest's own cache folder, under a digest of all the code that could change one; what else decides a
trace is in the name that the program itself gives it. So a kept one is what tracing again would give, and processes of
pytest-xdist, which run side by side, can only write the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TRACE = "[0-9a-f]" * 32 + ".json"  # not what is measured on this machine, which lies beside them


def digest_of_code() -> str:
    """Of every module of the program, the versions that it is tested with and this Python."""
    found = hashlib.sha256(sys.version.encode())
    for path in (ROOT / "constraints.txt", *sorted((ROOT / "src").rglob("*.py"))):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:24]


def store_below(folder: Path) -> Path:
    """Where traces of this code are kept; those of other code go."""
    store = folder / digest_of_code()
    store.mkdir(parents=True, exist_ok=True)
    for other in folder.iterdir():
        if other != store:
            shutil.rmtree(other, ignore_errors=True)
    return store


@contextmanager
def lent(store: Path, cache_dir: Path) -> Iterator[None]:
    """The kept traces lie where a job with this ``data.cache_dir`` looks; what is traced meanwhile is kept, too."""
    here = cache_dir / "memory"
    here.mkdir(parents=True, exist_ok=True)
    for path in store.glob(_TRACE):
        shutil.copy(path, here)
    yield
    for path in here.glob(_TRACE):
        if not (store / path.name).exists():
            written = store / f"{path.name}.{os.getpid()}"
            shutil.copy(path, written)
            written.replace(store / path.name)  # whole, whoever else does the same
