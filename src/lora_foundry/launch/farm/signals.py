"""Ctrl-C, SIGTERM and a closed terminal, counted instead of raised, while a worker runs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_SAME_INSTANT_S = 0.2


class Interrupts:
    """Counts interrupts while it is entered; signals reach it in the main thread only.

    Attributes:
        asked: Whether an interrupt came: it asks for a clean stop.
        insisted: Whether a second came: it asks for an end at once. A second signal of the same instant
            (a shell and a terminal that both hang up) and a repeated hang-up do not count.
        hung_up: Whether the terminal is gone.
        since: When the first came (monotonic seconds).
        finishing: Set when no worker runs any more; insisting then raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self.insisted = False
        self.hung_up = False
        self.finishing = False
        self.since = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def waited_s(self) -> float:
        """Seconds since the first interrupt."""
        return time.monotonic() - self.since if self.asked else 0.0

    def ask(self) -> None:
        """Ask for a clean stop, as the first Ctrl-C does; asking again changes nothing."""
        if not self.asked:
            self.since = time.monotonic()
            self.asked = True

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.hung_up = True
        elif self.waited_s() > _SAME_INSTANT_S:
            self.insisted = True
        self.ask()
        if self.finishing and self.insisted:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before = signal.getsignal(number)
                if number == signal.SIGHUP and before == signal.SIG_IGN:
                    continue  # nohup
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()
