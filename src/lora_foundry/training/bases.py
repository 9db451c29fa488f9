"""The base in memory, kept warm from pack to pack."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

from lora_foundry.config.collector import importing
from lora_foundry.models.opening import open_base
from lora_foundry.tasks.opening import open_task
from lora_foundry.training.precision import DTYPES

if TYPE_CHECKING:
    from lora_foundry.config import JobConfig
    from lora_foundry.models.protocol import BaseFiles
    from lora_foundry.tasks.protocol import Task


class Bases:
    """Opens bases, and keeps the one that was loaded last.

    Args:
        device: Where they are loaded, and with them everything of a training.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._files: dict[object, BaseFiles] = {}
        self._key: object = None
        self._loaded: Task | None = None

    def files(self, config: JobConfig) -> BaseFiles:
        """The base's files, found and found complete.

        Raises:
            lora_foundry.models.protocol.BaseError: When they are not.
        """
        if config.model not in self._files:
            self._files[config.model] = open_base(config.model)
        return self._files[config.model]

    @property
    def loaded(self) -> bool:
        """Whether any base is in memory."""
        return self._loaded is not None

    def has(self, config: JobConfig) -> bool:
        """Whether the base is in memory already."""
        return self._loaded is not None and self._key == _key(config)

    def load(self, config: JobConfig) -> Task:
        """The job's task on its base, in its precision on its device, from memory where it is there already."""
        if self._loaded is None or not self.has(config):
            self.forget()  # one base at a time: let go before the next is read
            files = self.files(config)
            dtype = DTYPES[config.trainer.precision].base
            with importing():
                self._loaded = open_task(config.model.family, files, dtype=dtype, device=self.device)
            self._key = _key(config)
        self._loaded.base.set_gradient_checkpointing(enabled=config.trainer.gradient_checkpointing)
        return self._loaded

    def forget(self) -> None:
        """Let the loaded base go: after a failure it may hold half-made adapters."""
        self._loaded, self._key = None, None
        gc.collect()  # a trainer and its callbacks refer to each other, and through the pack to the base
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _key(config: JobConfig) -> object:
    return config.model, config.trainer.precision
