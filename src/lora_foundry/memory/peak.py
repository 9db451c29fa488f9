"""What a training really took at its peak."""

from __future__ import annotations

from pathlib import Path

import torch

from lora_foundry.memory.watch import taken_bytes
from lora_foundry.training.shortage import trim_heap

_BEGIN_A_NEW_PEAK = "5"  # of proc(5), /proc/pid/clear_refs


class Peak:
    """Most memory of this process from now on: a GPU's tensors, or the resident set on the CPU.

    Args:
        device: Where the training runs.

    Attributes:
        known: Whether a new peak could be begun.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        self.known = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = 0
        else:
            trim_heap()  # what earlier work left there is none of this training's
            try:
                Path("/proc/self/clear_refs").write_text(_BEGIN_A_NEW_PEAK)
                self.known = True
            except OSError:  # a container may forbid it; then the peak is that of the process's whole life
                self.known = False
            self._before = taken_bytes()

    def read(self) -> tuple[int, int]:
        """Bytes at the peak, and how many of them were there before any tensor of the training."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device), 0
        lines = Path("/proc/self/status").read_text().splitlines()
        highest = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        return highest, self._before
