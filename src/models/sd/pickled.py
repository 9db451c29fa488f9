"""Pickled checkpoints: opened only when there is nothing but tensors in them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from src.models.protocol import BaseError

if TYPE_CHECKING:
    from torch import Tensor

PICKLED = (".ckpt", ".pt", ".pth", ".bin")


def read_pickled(file: Path) -> Mapping[str, Tensor]:
    """The state dict of a pickled checkpoint, mapped from disk, only when it holds nothing but tensors.

    Raises:
        BaseError: When unpickling would run code, or the file is broken.
    """
    import torch  # noqa: PLC0415

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        msg = (
            f"model.path: got {file}, a pickled checkpoint that holds more than tensors, or is broken ({reason}); "
            "loading it could run code. Allowed is .safetensors: convert it, or download that version of the model"
        )
        raise BaseError(msg) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        msg = f"model.path: got {file}, which holds a {type(loaded).__name__}, allowed is a state dict"
        raise BaseError(msg)
    return state
