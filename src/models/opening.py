"""From a model's configuration to files that were found."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from src.config.schema import ModelConfig
from src.models.protocol import BaseFiles

FAMILIES = {"sd": "src.models.sd.base"}
"""Name in ``model.family`` to the module whose ``open_files`` takes the model's configuration."""


def open_base(model: ModelConfig) -> BaseFiles:
    """Find a base and check that it is complete, without reading weights.

    Args:
        model: The ``model`` group of a job.

    Returns:
        Files, tokenizer, and the ways to load the parts.

    Raises:
        BaseError: When files are missing, incomplete or of a kind that is not allowed, or the hub cannot be reached.
    """
    opener: Callable[[ModelConfig], BaseFiles] = import_module(FAMILIES[model.family]).open_files
    return opener(model)
