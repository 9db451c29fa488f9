"""Appending lines to a file on a disk that may be full for a while."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE_BYTES = 65_536


class Appender:
    """Appends lines; what a full disk refuses waits in memory and goes first the next time.

    Args:
        descriptor: Of a file opened for appending, whose one writer this is.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = bytearray()

    @property
    def waits(self) -> bool:
        """Whether there are bytes that the disk did not take yet."""
        return bool(self._rest)

    def append(self, line: bytes = b"", *, sync: bool = False) -> None:
        """Append ``line`` behind what waits; without one only that is tried again.

        Raises:
            OSError: When the file cannot be written for another reason than want of room.
        """
        self._rest += line
        try:
            while self._rest:
                del self._rest[: os.write(self._descriptor, self._rest)]
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise


def is_full(folder: Path) -> bool:
    """Whether nothing can be written to the folder's disk for want of room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
    except OSError as error:
        return error.errno in _NO_ROOM
    return False
