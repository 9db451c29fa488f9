"""Between two batches of a sweeper nobody trains, and the farm is open: somebody goes on looking."""

from __future__ import annotations

import threading
from collections.abc import Callable

_EVERY_S = 0.2


class Idling:
    """Looks again and again in a thread of its own, until it is over.

    Warm workers are watched, a stop is heeded, and a device that another sweep waits for is given back.

    Args:
        look: One look; what it raises is raised at the end.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="idling", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.wait(_EVERY_S):
                self._look()
        except BaseException as error:  # noqa: BLE001  # raised where it is ended
            self._error = error
