"""Signs of life of a pack, and its jobs' own logs."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Self

from lora_foundry.wire.events import Alive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from lora_foundry.worker.commands import Commands
    from lora_foundry.worker.spool import Spool

EVERY_S = 5.0
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Pulse:
    """Tells every few seconds how much work was done, so that a launcher can tell a slow pack from a stuck one.

    A thread that only said "alive" would go on saying so beside a training that hangs.

    Args:
        spool: Takes ``worker`` events, state ``alive``.
        commands: Counts the work.
        every_s: Seconds between two of them.
    """

    def __init__(self, spool: Spool, commands: Commands, every_s: float = EVERY_S) -> None:
        self._spool = spool
        self._commands = commands
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._end.wait(self._every_s):
            self._spool.emit(Alive(work=self._commands.asked))


class JobLogs:
    """Whatever is logged goes to ``worker.log`` of every job's folder too, until the end of the block."""

    def __init__(self) -> None:
        self._handlers: list[logging.FileHandler] = []

    def add(self, folders: Iterable[Path]) -> None:
        """Begin to write into ``folders``."""
        for folder in folders:
            try:
                handler = logging.FileHandler(folder / "worker.log", delay=True)
            except OSError:
                continue  # the job's own files will say so
            handler.setFormatter(logging.Formatter(_FORMAT))
            logging.getLogger().addHandler(handler)
            self._handlers.append(handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
