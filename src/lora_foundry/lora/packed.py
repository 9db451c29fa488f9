"""A layer that holds the adapters of several members: what the bank asks of it, whatever kind they are of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from peft.tuners.tuners_utils import BaseTunerLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from peft import PeftConfig
    from torch import Tensor

    from lora_foundry.lora.forward import Forward


class PackedLayer(BaseTunerLayer, ABC):
    """One of PEFT's layers that computes the adapters of all members at once, from stacked tensors of the bank.

    A kind of adapter mixes it into PEFT's own. Its parts (LoRA's are A and B) lie in the bank by name, ``[K, ...]`` in
    the shapes of the largest rank; a member's own is the corner of its own shape, and the rest stays zero.

    Attributes:
        stack: What the kind computes with; None while no bank is there, and the layer is PEFT's own.
    """

    stack: Any = None

    @abstractmethod
    def rank(self, adapter: str) -> int:
        """The adapter's rank here; 0 where it has no such target."""

    @abstractmethod
    def shapes(self, rank: int) -> dict[str, tuple[int, ...]]:
        """The parts of an adapter of that rank, in the order in which they lie in the bank.

        Of a part whose shape depends on the rank, the first dimension alone does.
        """

    @abstractmethod
    def enter(self, adapter: str, config: PeftConfig) -> None:
        """Take one more adapter in, beside those that are here; its values come with :meth:`draw`."""

    @abstractmethod
    def draw(self, adapter: str, init: bool | str) -> None:  # noqa: FBT001  # PEFT's word for it
        """Initialise the adapter as PEFT does, on the CPU in fp32, from torch's own generator."""

    @abstractmethod
    def values(self, adapter: str) -> dict[str, Tensor]:
        """What PEFT's parameters of the adapter hold, in the shapes of its parts."""

    @abstractmethod
    def link(self, adapter: str, parts: Mapping[str, Tensor]) -> None:
        """Let PEFT's parameters of the adapter be ``parts``, views of the bank that hold its values."""

    @abstractmethod
    def attach(self, name: str, adapters: Sequence[str | None], forward: Callable[[], Forward | None]) -> None:
        """Compute with the bank's tensors from now on.

        Args:
            name: The layer's dotted name in the base.
            adapters: Of the places 0 to K-1; None of a free one.
            forward: Returns the forward under way, or None; the layer's parts are in it by name.
        """

    @abstractmethod
    def is_zero(self, parts: Mapping[str, Tensor]) -> bool:
        """Whether an adapter with these parts changes nothing here."""
