"""Running out of memory while a pack trains: what counts as it, and how a pack gives way."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from lora_foundry.training.pack import Pack

T = TypeVar("T")

# An allocation that failed on the CPU is a RuntimeError without a class of its own (torch, oneDNN).
_SAID_BY_THE_CPU = (
    "can't allocate memory",
    "not enough memory",
    "could not create a memory object",
    "std::bad_alloc",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class OutOfMemoryError(RuntimeError):
    """There was too little memory; the message says for what."""


class Relief(Protocol):
    """What a pack turns to when memory runs out."""

    def check(self) -> None:
        """Asked in every layer of a forward.

        Raises:
            OutOfMemoryError: When memory is about to run out.
        """

    def give_way(self, pack: Pack, reason: str) -> None:
        """Make ``pack`` need less.

        Raises:
            OutOfMemoryError: When nothing is left to change; the message says what would fit.
        """


class NoRelief:
    """Gives no way, and sees nothing coming."""

    def check(self) -> None:
        """All is well."""

    def give_way(self, pack: Pack, reason: str) -> None:  # noqa: ARG002
        """Always raises."""
        raise OutOfMemoryError(reason)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is a failed allocation, on a GPU or on the CPU, or a watch's warning of one."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID_BY_THE_CPU)


def reason_of(error: BaseException) -> str:
    """What ran out, in a line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def let_go(device: torch.device) -> None:
    """Return what was freed: to the GPU's other users, or to the operating system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        trim_heap()


def trim_heap() -> None:
    """Return what the heap keeps of freed memory for later: a worker's keeps all of it (``launch/machines``)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def in_fewer_rows(call: Callable[[int], T], rows: int, device: torch.device) -> tuple[T, int]:
    """``call(rows)``, and again with half the rows while memory runs out; the result and the rows it took.

    For what needs no gradients (scoring, drawing, encoding), where rows of a forward are nobody's business.

    Raises:
        RuntimeError: What ``call(1)`` raised.
    """
    while True:
        try:
            return call(rows), rows
        except Exception as error:
            if rows == 1 or not is_out_of_memory(error):
                raise
        let_go(device)
        rows = (rows + 1) // 2
