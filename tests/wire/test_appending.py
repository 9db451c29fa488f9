"""Lines on a disk that is full for a while, with the kernel's own refusals."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lora_foundry.wire.appending import Appender, is_full

_LINE = b"x" * 99 + b"\n"


@contextmanager
def _room(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_full_disk_refuses_is_written_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("ab") as file:
        lines = Appender(file.fileno())
        lines.append(_LINE, sync=True)
        with _room(250):  # the second line fits, the third in part
            for _ in range(4):
                lines.append(_LINE, sync=True)
            assert lines.waits
            assert is_full(tmp_path)
        assert path.stat().st_size == 250
        lines.append(b"last\n")
        assert not lines.waits
    assert path.read_bytes() == _LINE * 5 + b"last\n"
    assert not is_full(tmp_path)


def test_other_errors_are_told(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.touch()
    with path.open("rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        Appender(file.fileno()).append(_LINE)
