"""Pickled checkpoints: opened only when there is nothing but tensors in them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.models.protocol import BaseError

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST = 120  # characters of a reason
PICKLED = (".ckpt", ".pt", ".pth", ".bin")


def read_pickled(file: Path) -> Mapping[str, Tensor]:
    """The state dict of a pickled checkpoint, mapped from disk, only when it holds nothing but tensors.

    Raises:
        BaseError: When unpickling would run code, or the file is broken.
    """
    import torch

    try:
        # Files of torch before 1.6 are no zip archives and cannot be mapped.
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, OSError) as error:
        msg = (
            f"model.path: got {file}, a pickled checkpoint that holds more than tensors, or is broken "
            f"({_reason(error)}); loading it could run code. Allowed is .safetensors: convert it, or download that "
            "version of the model"
        )
        raise BaseError(msg) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        msg = f"model.path: got {file}, which holds a {type(loaded).__name__}, allowed is a state dict"
        raise BaseError(msg)
    return state


def _reason(error: Exception) -> str:
    """The cause in a few words: torch adds paragraphs of advice about its own switches."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), lines[0] if lines else "")
    return cause.split(". ")[0][:_LONGEST] or type(error).__name__
