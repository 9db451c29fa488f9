"""From a base's files to the task that is learned on it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from lora_foundry.config.families import family_choice

if TYPE_CHECKING:
    import torch

    from lora_foundry.models.protocol import BaseFiles
    from lora_foundry.tasks.protocol import Task


def open_task(family: str, files: BaseFiles, *, dtype: torch.dtype, device: torch.device) -> Task:
    """Read a base's weights, for what is learned on a base of this family.

    Args:
        family: Whose task is learned (:attr:`lora_foundry.config.families.FamilyChoice.task`).
        files: The base, found and found complete.
        dtype: Of the base's weights.
        device: Where the base is to lie.

    Raises:
        lora_foundry.models.protocol.BaseError: When weights are missing or do not fit.
    """
    opener: Callable[..., Task] = import_module(f"lora_foundry.tasks.{family_choice(family).task}.task").open_task
    return opener(files, dtype=dtype, device=device)
