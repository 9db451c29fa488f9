"""From a model's configuration to files that were found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lora_foundry.config.choices import FAMILIES
from lora_foundry.config.families import family_choice, trained_families
from lora_foundry.config.schema import ModelConfig
from lora_foundry.models.protocol import BaseError, BaseFiles, BaseSizes


def open_base(model: ModelConfig) -> BaseFiles:
    """Find a base and check that it is complete, without reading weights.

    Args:
        model: The ``model`` group of a job.

    Returns:
        Files, tokenizer, and the ways to load the parts.

    Raises:
        BaseError: When files are missing, incomplete or of a kind that is not allowed, or the hub cannot be reached.
    """
    if family_choice(model.family).task is None:
        msg = f"model.family: got {model.family}, allowed is one of {', '.join(trained_families())}"
        raise BaseError(msg)
    opener: Callable[[ModelConfig], BaseFiles] = _file(model, "base").open_files
    return opener(model)


def file_problems(model: ModelConfig, start: Path | None = None) -> list[str]:
    """What is wrong with a base's files, a line each, as far as that shows without torch and without the hub.

    Args:
        model: The ``model`` group of a job.
        start: Folder that relative paths start from; None is the working folder.
    """
    if family_choice(model.family).task is None:
        return []
    look: Callable[[ModelConfig, Path | None], list[str]] = _file(model, "base").file_problems
    return look(model, start)


def layers_of(model: ModelConfig, start: Path | None = None) -> Mapping[str, tuple[int, ...]] | None:
    """Shapes of the layers that an adapter can target; None where they show only with torch or the hub, or not at all.

    Args:
        model: The ``model`` group of a job.
        start: Folder that relative paths start from; None is the working folder.
    """
    if family_choice(model.family).task is None:
        return None
    look: Callable[[ModelConfig, Path | None], Mapping[str, tuple[int, ...]] | None] = _file(model, "base").layers_of
    return look(model, start)


def open_sizes(model: ModelConfig) -> BaseSizes:
    """Find a base's configs; its weights may be elsewhere.

    Raises:
        BaseError: When they are missing.
    """
    opener: Callable[[ModelConfig], BaseSizes] = _file(model, "sizes").open_sizes
    return opener(model)


def _file(model: ModelConfig, name: str) -> ModuleType:
    """One of the files that each family has (:mod:`lora_foundry.models.families`)."""
    return import_module(f"{FAMILIES.package}.{model.family}.{name}")
