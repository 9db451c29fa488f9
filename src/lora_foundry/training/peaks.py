"""What a training took at its peaks, told apart by what it was doing."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lora_foundry.config.allowance import memory_taken
from lora_foundry.training.shortage import trim_heap

if TYPE_CHECKING:
    from lora_foundry.config.doing import Doing

_BEGIN_A_NEW_PEAK = "5"  # of proc(5), /proc/pid/clear_refs


class Peaks:
    """Most memory of this process from now on: a GPU's tensors, or the resident set on the CPU.

    Whatever is done begins a peak of its own, so that what drawing took is not said of a step.

    Args:
        device: Where the training runs.

    Attributes:
        known: Whether peaks can be begun anew; a container may forbid it.
        beside: Bytes that were there before: none on a GPU, whose tensors are all counted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._card = device.type == "cuda"
        self._most: dict[Doing, int] = {}
        self._highest = 0
        self.known = True
        if not self._card:
            trim_heap()  # what earlier work left there is none of this training's
        self._begin()
        self.beside = 0 if self._card else memory_taken()

    @contextmanager
    def during(self, doing: Doing) -> Iterator[None]:
        """What is taken inside is said of ``doing``; what was taken since the last such stretch, of nothing."""
        self._read()
        self._begin()
        try:
            yield
        finally:
            self._most[doing] = max(self._most.get(doing, 0), self._read())
            if doing != "step" and not self._card:
                trim_heap()  # the heap keeps what is freed, and would be a step's at its height

    def of(self, doing: Doing) -> int | None:
        """Bytes at the peak of ``doing``; null where it was not done, or nobody can know."""
        return self._most.get(doing) if self.known else None

    @property
    def highest_gib(self) -> float:
        """GiB at the highest peak so far, whatever was done; in all the process's life where peaks are not known."""
        if not self.known:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self._read()
        return self._highest / 2**30

    def _begin(self) -> None:
        if self._card:
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            Path("/proc/self/clear_refs").write_text(_BEGIN_A_NEW_PEAK)
        except OSError:
            self.known = False

    def _read(self) -> int:
        """Bytes at the peak since it was begun."""
        if not self.known:
            return 0
        peak = torch.cuda.max_memory_allocated(self._device) if self._card else _resident_at_most()
        self._highest = max(self._highest, peak)
        return peak


def _resident_at_most() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    msg = "/proc/self/status does not tell VmHWM"
    raise OSError(msg)
