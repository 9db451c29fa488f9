"""Seeing a host run short of memory before its kernel ends a process over it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lora_foundry.config.allowance import memory_left, memory_most, memory_taken
from lora_foundry.training.shortage import OutOfMemoryError, trim_heap

GIB = 2**30
# Pages are written at tens of GiB a second at most, so far from a bound there is nothing to see for a while; each look
# takes the interpreter from the training.
EVERY_S, SELDOM_S = 0.02, 0.25
_BYTES_A_SECOND = 20 * GIB
_SPARE_SHARE, _LEAST_SPARE = 0.02, 192 * 2**20


class Watch:
    """A thread that looks at the memory taken and left, and an alarm that a training asks in every layer.

    It is what ends a forward pass on the CPU: there an allocation does not fail, the kernel ends a process instead,
    and limits that the kernel can be given (``RLIMIT_DATA``) fail whatever comes next, a thread or an import too.

    Args:
        available: Returns the bytes that can still be taken.
        taken: Returns the bytes that this process has.
        spare: Bytes that are to stay free; None takes 2 % of what there is, and at least 192 MiB.

    Attributes:
        limit: Most bytes that this process may take; None for no limit of its own.
    """

    def __init__(
        self,
        available: Callable[[], int] | None = None,
        taken: Callable[[], int] | None = None,
        spare: int | None = None,
    ) -> None:
        self.limit: int | None = None
        self._available = available or available_bytes
        self._taken = taken or memory_taken
        self._spare = spare if spare is not None else max(_LEAST_SPARE, int(total_bytes() * _SPARE_SHARE))
        self._short = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)

    def check(self) -> None:
        """Raise where memory is short, and was not given back since.

        Raises:
            OutOfMemoryError: With what is taken or left.
        """
        if self._short:
            _, problem = self._room()
            self._short = problem is not None
            if problem is not None:
                raise OutOfMemoryError(problem)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        wait = EVERY_S
        while not self._end.wait(wait):
            room, problem = self._room()
            if problem is not None:
                self._short = True
            wait = min(SELDOM_S, max(EVERY_S, room / _BYTES_A_SECOND))

    def _room(self) -> tuple[int, str | None]:
        """Bytes until something is wrong, and what is wrong already; what the heap only keeps is not taken."""
        room, problem = self._seen()
        if problem is not None:
            trim_heap()
            room, problem = self._seen()
        return room, problem

    def _seen(self) -> tuple[int, str | None]:
        rooms: list[int] = []
        if self.limit is not None:
            taken = self._taken()
            if taken > self.limit:
                return 0, f"{taken / GIB:.2f} GiB are taken, memory.limit_gib allows {self.limit / GIB:.2f}"
            rooms.append(self.limit - taken)
        left = self._available()
        if left < self._spare:
            return 0, f"{left / GIB:.2f} GiB are left on this machine, {self._spare / GIB:.2f} are to stay free"
        return min([*rooms, left - self._spare]), None


def available_bytes() -> int:
    """Bytes that this process can still take: the machine's, or its control group's where that is less."""
    return _known(memory_left())


def total_bytes() -> int:
    """Bytes that this process could take at most."""
    return _known(memory_most())


def _known(size: int | None) -> int:
    if size is None:
        msg = "/proc/meminfo does not tell how much memory there is"
        raise OSError(msg)
    return size
