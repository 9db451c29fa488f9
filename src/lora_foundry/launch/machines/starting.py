"""Workers on their way: an engine may wait for a machine as long as its queue does, and nobody waits with it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lora_foundry.launch.machines.engine import Worker

_MOMENT_S = 0.25  # a process of this machine is there in some milliseconds


class Start:
    """One start of a worker, in a thread of its own; what is there within a moment is waited for.

    Args:
        start: Starts it, however long that takes; OSError says that it cannot be started.
    """

    def __init__(self, start: Callable[[], Worker]) -> None:
        self._start = start
        self._worker: Worker | None = None
        self._error: BaseException | None = None
        self._unwanted = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="start", daemon=True)
        self._thread.start()
        self._thread.join(_MOMENT_S)

    @property
    def over(self) -> bool:
        """Whether :meth:`worker` has an answer."""
        return not self._thread.is_alive()

    def worker(self) -> Worker:
        """The worker, once :attr:`over`.

        Raises:
            OSError: When it could not be started.
        """
        if self._error is not None:
            raise self._error
        if self._worker is None:
            msg = "the engine was not waited for"
            raise RuntimeError(msg)
        return self._worker

    def give_up(self) -> None:
        """Want it no more: it is ended where it is there, else as soon as it is."""
        with self._lock:
            self._unwanted = True
            worker, self._worker = self._worker, None
        _end(worker)

    def _run(self) -> None:
        try:
            worker = self._start()
        except BaseException as error:  # noqa: BLE001  # raised where the worker is asked for
            self._error = error
            return
        with self._lock:
            if not self._unwanted:
                self._worker = worker
                return
        _end(worker)


def _end(worker: Worker | None) -> None:
    if worker is not None:
        worker.kill()
        worker.leave(0.0)
