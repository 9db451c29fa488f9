"""A storage that may be away for a while: what it was to be told is kept, in order, until it is back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

T = TypeVar("T")
_PAUSE_S = 2.0
_AWAY = (OSError, StorageInternalError, SQLAlchemyError)


class Patience:
    """Does what concerns the storage.

    Args:
        say: Tells people.
        now: A clock (seconds).
    """

    def __init__(self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._now = now
        self._kept: deque[Callable[[], object]] = deque()
        self._again_at: float | None = None

    def is_away(self) -> bool:
        """Whether the storage is away; when it is time it is tried again."""
        if self._again_at is not None and self._now() >= self._again_at:
            self._catch_up()
        return self._again_at is not None

    def keep(self, act: Callable[[], object]) -> None:
        """Do it now, or in its turn once the storage is back."""
        self._kept.append(act)
        if not self.is_away():
            self._catch_up()

    def tried(self, act: Callable[[], T]) -> T | None:
        """Do it now; None where the storage is away."""
        if self.is_away():
            return None
        try:
            return act()
        except _AWAY as error:
            self._leave(error)
            return None

    def _catch_up(self) -> None:
        was_away, self._again_at = self._again_at is not None, None
        while self._kept:
            try:
                self._kept[0]()
            except _AWAY as error:
                self._leave(error, told=was_away)
                return
            self._kept.popleft()
        if was_away:
            self._say("the study's storage is back; the search goes on")

    def _leave(self, error: BaseException, *, told: bool = False) -> None:
        self._again_at = self._now() + _PAUSE_S
        if not told:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._say(f"the study's storage is away ({reason}); jobs train on, and new trials wait for it")
