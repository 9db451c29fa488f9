"""Safetensors as bytes: packing with the hashes readers look for, and reading without trusting the file."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lora_foundry.lora.formats.adapter import AdapterFileError, ExportError, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

FILE_DTYPES = (torch.float16, torch.bfloat16)
_LENGTH_BYTES = 8


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file's bytes, with ``sshs_model_hash`` and ``modelspec.hash_sha256`` of its own tensors.

    Both are sha256 of everything after the header, so adding them does not change them.
    """
    content = save(dict(tensors))
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    digest = hashlib.sha256(content[end:]).hexdigest()
    hashes = {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}
    # The metadata go into the header that is there: to serialise the tensors again takes as long as to write them.
    header = json.dumps({"__metadata__": {**metadata, **hashes}, **json.loads(content[_LENGTH_BYTES:end])}).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header + content[end:]


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, fit for a file.

    Raises:
        ExportError: When ``dtype`` is not fp16 or bf16, or values are not finite in it, with their keys.
    """
    if dtype not in FILE_DTYPES:
        allowed = ", ".join(str(allowed) for allowed in FILE_DTYPES)
        raise ExportError(f"dtype: got {dtype}, allowed is one of {allowed} (readers take those; train in fp32)")
    copies = {key: tensor.detach().to("cpu", dtype, copy=True).contiguous() for key, tensor in tensors.items()}
    broken = [key for key, tensor in copies.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ExportError(listing(f"Tensors not finite in {dtype}; the training has diverged", broken))
    return copies


def alpha_tensor(alpha: float, dtype: torch.dtype) -> Tensor:
    """Alpha as a 0-d tensor: in ``dtype`` when that holds it exactly, else fp32 (readers take its ``.item()``).

    rsLoRA's alpha * sqrt(rank) would lose up to 0.4 % in bf16, more than the whole file may differ by.
    """
    exact = torch.tensor(alpha, dtype=torch.float32)
    return exact.to(dtype) if float(exact.to(dtype)) == float(exact) else exact


@contextmanager
def open_tensors(path: Path) -> Iterator[Callable[[str], Tensor]]:
    """A function that reads one tensor of a safetensors file, inside the block.

    Raises:
        AdapterFileError: When it is no intact safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file.get_tensor
    except SafetensorError as error:
        raise AdapterFileError(f"{path}: not an intact safetensors file ({error}); fetch or export it again") from error


def hash_problem(path: Path) -> str | None:
    """How the hash in the header differs from the tensors' bytes; None when it is right."""
    content = path.read_bytes()
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    stored = json.loads(content[_LENGTH_BYTES:end]).get("__metadata__", {}).get("sshs_model_hash")
    actual = hashlib.sha256(content[end:]).hexdigest()
    return None if stored == actual else f"sshs_model_hash is {stored}, the tensors' sha256 is {actual}"
