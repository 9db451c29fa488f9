"""``memory.limit_gib`` on the CPU and on a GPU."""

from __future__ import annotations

import torch

from lora_foundry.memory.watch import GIB, Watch


def set_limit(limit_gib: float | None, device: torch.device, watch: Watch) -> None:
    """Let this process take no more than ``limit_gib``; None lifts a limit set before.

    On a GPU torch's allocator fails beyond it (``torch.cuda.set_per_process_memory_fraction``). On the CPU ``watch``
    ends the forward pass that goes beyond it, what the program itself takes included.
    """
    watch.limit = None
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if limit_gib is None else min(1.0, limit_gib * GIB / total))
    elif limit_gib is not None:
        watch.limit = int(limit_gib * GIB)


def too_small(limit_gib: float | None, weights: int, device: torch.device, program: int) -> str | None:
    """Why a limit cannot do, or None: the base's own weights have to fit beside the program.

    Args:
        limit_gib: ``memory.limit_gib``.
        weights: Bytes of the base.
        device: Where it will lie; on a GPU the program's own memory does not count.
        program: Bytes that the process took before any base was loaded.
    """
    if limit_gib is None:
        return None
    program = program if device.type == "cpu" else 0
    needed = (weights + program) / GIB
    if limit_gib > needed:
        return None
    beside = f" beside the program's own {program / GIB:.2f} GiB" if program else ""
    return (
        f"memory.limit_gib: got {limit_gib:g}, but the base's weights alone take {weights / GIB:.2f} GiB{beside}; "
        f"allowed is more than {needed:.2f}"
    )
