"""Whether the process that started a sweep still lives."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

_CLOCK_SLACK_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessMark:
    """A process that a reused process id cannot be mistaken for.

    Attributes:
        host: Name of the machine.
        pid: Process id on that machine.
        started: When the process started, unix seconds.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def own(cls) -> ProcessMark:
        """The mark of the calling process."""
        import psutil

        return cls(host=platform.node(), pid=os.getpid(), started=psutil.Process().create_time())

    def is_dead(self) -> bool:
        """True when the process has certainly ended; a process of another machine is not judged."""
        import psutil

        if self.host != platform.node():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            return abs(process.create_time() - self.started) > _CLOCK_SLACK_S
        except psutil.NoSuchProcess:
            return True
