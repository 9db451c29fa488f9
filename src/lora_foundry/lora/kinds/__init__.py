"""Kinds of adapter (``lora.kind``), a folder each: its packed layers, and how it gets into a file and out of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_foundry.config.choices import ADAPTER_KINDS, Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peft import PeftConfig
    from torch import Tensor

    from lora_foundry.config.schema import LoraConfig
    from lora_foundry.lora.formats.adapter import LoraWeights
    from lora_foundry.lora.inject import AdapterSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """What an adapter begins with in one layer.

    Attributes:
        parts: By name.
        lost: Squared Frobenius norm of what of the file's update was cut off.
        whole: Squared Frobenius norm of that update; 0 where nothing was cut.
    """

    parts: dict[str, Tensor]
    lost: float
    whole: float


class KindChoice(Choice, ABC):
    """What is trained in each layer; members of one pack are of one kind."""

    @abstractmethod
    def peft(self, spec: AdapterSpec) -> PeftConfig:
        """What PEFT is told, with the kind's :class:`~lora_foundry.lora.packed.PackedLayer` for each type of layer."""

    @abstractmethod
    def written(self, parts: Mapping[str, Tensor], lora: LoraConfig) -> LoraWeights:
        """One layer's parts in the neutral form that every file format is written from.

        Args:
            parts: Unpadded, by name.
            lora: The adapter's settings.
        """

    @abstractmethod
    def begun(self, weights: LoraWeights, fresh: Mapping[str, Tensor], lora: LoraConfig) -> Begun:
        """The reverse, at the adapter's own rank and scale.

        Args:
            weights: One layer of a file.
            fresh: Its parts as they were initialised, which give shapes and what a larger rank begins with.
            lora: The adapter's settings.
        """


def kind_choice(name: str) -> KindChoice:
    """The kind of that name (``lora.kind``)."""
    return ADAPTER_KINDS.load(name, KindChoice)
