"""Running out of memory while a pack trains: what counts as it, and how a pack gives way."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from lora_foundry.training.probing import is_short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lora_foundry.training.pack import Pack

T = TypeVar("T")


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


def is_out_of_memory(error: BaseException, device: torch.device | None = None) -> bool:
    """Whether ``error`` is a failed allocation, on a GPU or on the CPU, or a watch's warning of one.

    Args:
        error: What was raised.
        device: Where; a card is asked whether it is full where the error does not say so.
    """
    return isinstance(error, OutOfMemoryError) or is_short(error, device)


def let_go(device: torch.device) -> None:
    """Return what was freed, and what nothing refers to but itself."""
    gc.collect()
    give_back(device)


def give_back(device: torch.device) -> None:
    """Return what was freed: to the GPU's other users, or to the operating system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        trim_heap()


def trim_heap() -> None:
    """Return what the heap keeps of freed memory for later: a worker's keeps all of it (``launch/machines``)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def asked_in_every_layer(check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before each layer of whatever runs: base, encoder or decoder; what it raises ends the forward."""
    hook = register_module_forward_pre_hook(lambda *_: check())
    try:
        yield
    finally:
        hook.remove()


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
            if rows == 1 or not is_out_of_memory(error, device):
                raise
        let_go(device)
        rows = (rows + 1) // 2
