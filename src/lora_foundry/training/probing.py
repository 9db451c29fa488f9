"""What an error says of the device: told by asking the device, and by words only where those are certain.

A library may meet a full card, or one that fell off the bus, in any words. So after an error that is not known
something is allocated and computed on the card.
"""

from __future__ import annotations

from typing import Literal

import torch

_SIDE = 64  # of the matrices that are multiplied to see whether a card computes
_LEAST_FREE = 64 * 2**20  # of the card, below which libraries find no room for their handles and workspaces
_ROOMY = 0.25  # of the card, free or the allocator's to give: cuDNN finds an engine with much less
_LONGEST = 300  # letters of an error that are told
_NO_ENGINE = "unable to find an engine"
# A failed allocation that has no class of its own: torch's, oneDNN's and C++'s on the CPU; the libraries' on a card.
_MEMORY = (
    *("can't allocate memory", "not enough memory", "could not create a memory object", "std::bad_alloc"),
    *("out of memory", "_STATUS_ALLOC_FAILED", "_ALLOCATION_FAILED", "hipErrorOutOfMemory", "hipErrorMemoryAllocation"),
    *("miopenStatusAllocFailed", "Failed to allocate", "_STATUS_INSUFFICIENT_RESOURCES"),
)
# What leaves a process that cannot use its card any more, in CUDA's, cuDNN's, cuBLAS's, HIP's and HSA's words.
_POISONED = (
    *("CUDA error", "CUDA driver error", "HIP error", "hipError", "HSA_STATUS_ERROR"),
    *("_STATUS_EXECUTION_FAILED", "_STATUS_INTERNAL_ERROR", "_STATUS_MAPPING_ERROR"),
    *("miopenStatusInternalError", "miopenStatusUnknownError", "illegal memory access", "illegal address"),
    *("misaligned address", "unspecified launch failure", "device-side assert", "uncorrectable ECC"),
)

Finding = Literal["fine", "short", "lost"]
"""How a card answers: it computes, it has no memory left, or this process cannot use it any more."""


def compute(device: torch.device) -> None:
    """Allocate and compute a little on ``device``, and wait for it.

    Raises:
        RuntimeError: As torch raises it.
    """
    ones = torch.ones(_SIDE, _SIDE, device=device)
    (ones @ ones).sum().item()


def probe(device: torch.device) -> Finding:
    """How the card answers now, whatever was said before."""
    try:
        free, _ = torch.cuda.mem_get_info(device)
        compute(device)
    except RuntimeError as error:
        return "short" if says_memory(error) else "lost"
    return "short" if free < _LEAST_FREE else "fine"


def says_memory(error: BaseException) -> bool:
    """Whether ``error`` itself says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY)


def is_short(error: BaseException, device: torch.device | None = None) -> bool:
    """Whether memory ran out: as ``error`` says, or where it says something else, as the card of ``device`` answers.

    Libraries meet a full card in many words: cuDNN leaves out each way to compute that finds no workspace and then
    has none left, cuBLAS cannot make its handle.
    """
    if says_memory(error):
        return True
    if not isinstance(error, RuntimeError):
        return False
    if device is None or device.type != "cuda":
        return _NO_ENGINE in str(error).lower()
    if _NO_ENGINE in str(error).lower():
        return probe(device) == "short" or not _is_roomy(device)
    return probe(device) == "short"


def is_lost(error: BaseException, device: torch.device) -> bool:
    """Whether this process can use its card no more: an error that sticks to the context, or a card that is silent."""
    if is_short(error, device):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return any(words in str(error) for words in _POISONED) or (device.type == "cuda" and probe(device) == "lost")


def _is_roomy(device: torch.device) -> bool:
    """Whether much of the card is free, or the allocator's to give."""
    try:
        free, total = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    except RuntimeError:
        return True  # the card does not answer, which is no shortage
    return free + kept > total * _ROOMY


def reason_of(error: BaseException) -> str:
    """What went wrong, in a line."""
    lines = str(error).strip().splitlines()
    return lines[0][:_LONGEST] if lines else type(error).__name__
