"""Content hashes of a base's files, quick for gigabytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from lora_foundry.models.header import read_header

WHOLE_BYTES = 256 * 2**20
"""Files up to this size are hashed whole."""
SAMPLE_BYTES = 4096
"""Bytes read of each tensor of a larger file."""
SPREAD_BLOCKS = 1024
"""Evenly spread samples of a large file that is no safetensors."""


def content_hash(files: Mapping[str, Path]) -> str:
    """Hash of named files: the same for the same names and contents wherever they lie.

    A file of at most :data:`WHOLE_BYTES` is read whole. Of a larger one the size, the header (names, types, shapes
    of all tensors) and the first :data:`SAMPLE_BYTES` of every tensor are read, 5 MB of the 4 GB of Stable Diffusion
    1.5: training touches every tensor it touches at all, so another training gives another hash, while an edit of
    single numbers deep inside a tensor would not. Within a process a file of unchanged size and time is read once.

    Args:
        files: Name that enters the hash, to path.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for name in sorted(files):
        status = files[name].stat()
        digest = _file_hash(str(files[name].resolve()), status.st_size, status.st_mtime_ns)
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()


@lru_cache(maxsize=256)
def _file_hash(path: str, size: int, mtime_ns: int) -> str:
    del mtime_ns  # part of the cache's key only: a copy of a file has the same hash
    with Path(path).open("rb") as file:
        if size <= WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"sampled\0{size}\n".encode())
        for offset, length in _samples(path, size):
            file.seek(offset)
            digest.update(file.read(length))
        return digest.hexdigest()


def _samples(path: str, size: int) -> Iterable[tuple[int, int]]:
    if path.endswith(".safetensors"):
        header = read_header(Path(path))
        yield 0, header.data
        for name in sorted(header.tensors):
            start, end = header.tensors[name]["data_offsets"]
            yield header.data + start, min(SAMPLE_BYTES, end - start)
    else:
        for block in range(SPREAD_BLOCKS):
            yield block * size // SPREAD_BLOCKS, SAMPLE_BYTES
