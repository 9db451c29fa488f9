"""A content-addressed store of tensors, shared by the jobs of a sweep and by later sweeps."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lora_foundry.config.files import write_atomic

_LOG = logging.getLogger(__name__)
_FORMAT = 1  # of the entries; part of every key
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header


def key_of(description: dict[str, object]) -> str:
    """The key of what ``description`` says everything about that decides it."""
    canonical = json.dumps({"format": _FORMAT, **description}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def device_name(device: torch.device) -> str:
    """What results that depend on the hardware are kept by."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


class TensorCache:
    """Named tensors by key, one safetensors file an entry, in folders of the key's first two letters.

    Any number of processes may read and write one cache: an entry appears whole or not at all, and two
    writers of one key write the same thing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """The file of ``key``, whether or not it exists."""
        return self.root / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The entry, or None when there is none; a damaged entry is deleted and logged.

        Raises:
            OSError: When the file exists and cannot be read.
        """
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _unpack(content, key)
        except (SafetensorError, ValueError, KeyError) as error:
            _LOG.warning("%s: damaged cache entry deleted, it is computed anew (%s)", path, error)
            path.unlink(missing_ok=True)
            return None

    def put(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Store an entry.

        Raises:
            OSError: When the cache's folder cannot be written or the disk is full.
        """
        plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        write_atomic(self.path(key), save(plain, metadata={"key": key, "sum": digest_of(plain)}))


def _unpack(content: bytes, key: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load(content)
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    written = json.loads(content[_LENGTH_BYTES:end])["__metadata__"]
    if written["key"] != key:
        raise ValueError(f"it holds key {written['key']}")
    if written["sum"] != digest_of(tensors):
        raise ValueError("its checksum does not fit")
    return tensors


def digest_of(tensors: dict[str, Tensor]) -> str:
    """A hex digest of names, types, shapes and bytes (safetensors itself would not notice a flipped bit)."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
