"""The GPUs of this machine and what is free on them, as NVML reports it through ``nvidia-smi``."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

_QUERY = "index,name,memory.total,memory.free"
_MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A card; ``free`` leaves out what any process has taken.

    Attributes:
        index: Its number, as the driver counts.
        name: The model.
        total: Bytes.
        free: Bytes.
    """

    index: int
    name: str
    total: int
    free: int


def gpus() -> list[Gpu]:
    """Every card that answers; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run(  # noqa: S603 - the driver's own program, found on the path
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_gpus(told.stdout) if told.returncode == 0 else []


def parse_gpus(text: str) -> list[Gpu]:
    """What ``nvidia-smi`` printed, a line a card; cards that report no memory are left out."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 4 and cells[0].isdigit() and cells[2].isdigit() and cells[3].isdigit():
            found.append(Gpu(index=int(cells[0]), name=cells[1], total=int(cells[2]) * _MIB, free=int(cells[3]) * _MIB))
    return found
