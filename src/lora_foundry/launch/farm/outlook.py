"""Telling how long a sweep takes yet: on the screen at every look, in the journal where it changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lora_foundry.launch.farm.remaining import Remaining
from lora_foundry.launch.farm.stations import Station
from lora_foundry.launch.records.journal import Journal
from lora_foundry.launch.screen.live import Screen
from lora_foundry.wire.journal import ExpectsLine

_EVERY_S = 0.5
_JOURNAL_EVERY_S = 5.0
_CHANGED = 0.1  # of what is left


class Outlook:
    """Asks from time to time.

    Args:
        remaining: Is asked.
        journal: Takes ``expects`` with the time (Unix seconds) at which all should be over, for ``src.status``.
        screen: Where the user is told.
    """

    def __init__(self, remaining: Remaining, journal: Journal, screen: Screen) -> None:
        self._remaining = remaining
        self._journal = journal
        self._screen = screen
        self._looked_at = 0.0
        self._told_at = 0.0
        self._ends: float | None = None

    def look(self, stations: Sequence[Station], waiting: Sequence[Sequence[int]]) -> None:
        """Ask anew, where the last look is not of this moment."""
        now = time.time()
        if abs(now - self._looked_at) < _EVERY_S:
            return
        self._looked_at = now
        left = self._remaining.look(stations, waiting, now)
        self._screen.expect(left)
        self._tell(None if left is None else now + left, now)

    def _tell(self, ends: float | None, now: float) -> None:
        known = self._ends
        if ends is not None and known is not None:
            stale = abs(ends - known) > max(1.0, _CHANGED * max(ends, known) - _CHANGED * now)
            if not stale or now - self._told_at < _JOURNAL_EVERY_S:
                return
        elif ends is known:
            return
        self._ends, self._told_at = ends, now
        self._journal.write(ExpectsLine(ends=None if ends is None else round(ends, 1)))
