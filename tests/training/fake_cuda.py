"""A stand-in for a card behind ``torch.cuda``: what is asked of it is answered, or raised, as a test wants it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lora_foundry.training import probing

CARD = torch.device("cuda", 0)
GIB = 2**30


class FakeCuda:
    """Takes the place of a card until the test ends.

    Attributes:
        init: Raised when CUDA is begun.
        answer: Raised when something is computed, and by whatever else asks the card.
        failing: Raised once each when something is computed, before ``answer`` is asked.
        free, total: Bytes.
        reserved, allocated: Bytes of this process's allocator.
        peak: Most bytes allocated since that was last begun.
        integrated: Whether it shares the host's memory.
        fraction: What the allocator was told to take at most, of ``total``.
        computed: How often it was tried.
        cards: How many like it there are.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.init: BaseException | None = None
        self.answer: BaseException | None = None
        self.failing: list[BaseException] = []
        self.free, self.total = 20 * GIB, 24 * GIB
        self.reserved = self.allocated = self.peak = self.computed = 0
        self.integrated = False
        self.cards = 1
        self.fraction: float | None = None
        fakes = {
            "init": self._init,
            "device_count": lambda: self.cards,
            "mem_get_info": lambda _: self._asked((self.free, self.total)),
            "memory_reserved": lambda _: self._asked(self.reserved),
            "memory_allocated": lambda _: self._asked(self.allocated),
            "max_memory_allocated": lambda _: self.peak,
            "reset_peak_memory_stats": lambda _: self.allocate(self.allocated, at_most=0),
            "get_device_properties": lambda _: SimpleNamespace(
                total_memory=self.total, is_integrated=self.integrated, name="A card", major=7, minor=5
            ),
            "set_per_process_memory_fraction": self._set_fraction,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        for module in ("probing", "device"):
            monkeypatch.setattr(f"lora_foundry.training.{module}.compute", self._compute)
        assert probing.compute == self._compute

    def allocate(self, size: int, *, at_most: int | None = None) -> None:
        """Have ``size`` bytes allocated from here on; ``at_most`` is the peak before, null leaves it."""
        self.allocated, self.peak = size, max(size, self.peak if at_most is None else at_most)

    def _init(self) -> None:
        if self.init is not None:
            raise self.init

    def _asked(self, value: object) -> object:
        if self.answer is not None and not isinstance(self.answer, torch.OutOfMemoryError):
            raise self.answer
        return value

    def _compute(self, device: torch.device) -> None:
        assert device.type == "cuda"
        self.computed += 1
        if self.failing:
            raise self.failing.pop(0)
        if self.answer is not None:
            raise self.answer

    def _set_fraction(self, fraction: float, device: torch.device) -> None:
        assert device == CARD
        self.fraction = fraction
