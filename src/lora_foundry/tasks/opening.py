"""From a family of bases to what is learned on one: the task, and the preparation of what it learns from."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lora_foundry.config.families import family_choice

if TYPE_CHECKING:
    import torch

    from lora_foundry.models.protocol import BaseFiles
    from lora_foundry.tasks.protocol import Preparation, Task


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
    opener: Callable[..., Task] = _part(family, "task").open_task
    return opener(files, dtype=dtype, device=device)


def open_preparation(family: str) -> Preparation:
    """What makes the material of jobs on bases of this family."""
    opener: Callable[[], Preparation] = _part(family, "preparing").open_preparation
    return opener()


def _part(family: str, name: str) -> Any:  # noqa: ANN401  # a module
    return import_module(f"lora_foundry.tasks.{family_choice(family).task}.{name}")
