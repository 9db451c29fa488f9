"""``memory.limit_gib`` on the CPU and on a GPU."""

from __future__ import annotations

import torch

from lora_foundry.memory.libraries import GPU_CONTEXT
from lora_foundry.memory.watch import GIB, Watch

# Of a card, left beside what all its processes may take: what others took since, and what drivers of Windows and WSL2
# need. Those let a process take more than there is, in the host's memory, and ten times slower.
_MARGIN_SHARE, _LEAST_MARGIN = 0.02, 256 * 2**20
_LEAST = 256 * 2**20  # an allocator that may take nothing says nothing of use


def set_limit(limit_gib: float | None, device: torch.device, watch: Watch, share: int | None = None) -> None:
    """Let this process take no more than ``limit_gib``, and of a card no more than its share of what was free.

    On a GPU torch's allocator fails beyond it (``torch.cuda.set_per_process_memory_fraction``). On the CPU ``watch``
    ends the forward pass that goes beyond it, what the program itself takes included.

    Args:
        limit_gib: ``memory.limit_gib``; None lifts a limit set before.
        device: Where the training runs.
        watch: Of this process.
        share: Bytes of the card that this process may take, its context included, as its launcher found them free;
            None is what is free now.
    """
    watch.limit = None
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        most = card.total_memory if card.is_integrated else _tensors(device, card.total_memory, share)
        most = most if limit_gib is None else min(most, int(limit_gib * GIB))
        torch.cuda.set_per_process_memory_fraction(min(1.0, most / card.total_memory), device)
    elif limit_gib is not None:
        watch.limit = int(limit_gib * GIB)


def _tensors(device: torch.device, total: int, share: int | None) -> int:
    """Bytes that the allocator may take of a card; one that shares the host's memory has no such bound."""
    if share is None:
        room = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    else:
        room = share - GPU_CONTEXT
    return max(_LEAST, room - max(_LEAST_MARGIN, int(total * _MARGIN_SHARE)))


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
