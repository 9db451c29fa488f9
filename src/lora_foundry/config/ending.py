"""How a command ends: a reader that leaves early (``| head``) is no fault, and leaving does not take seconds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from lora_foundry.config.collector import before_exit

INTERRUPTED = 130


def run(main: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code; 0 where its reader left before it had said all.

    An interrupt that comes from here on asks for nothing that is not done.
    """
    try:
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 0
        _say_no_more()
    except KeyboardInterrupt:  # after the command's last word: whatever trains counts interrupts itself
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before_exit()
    sys.exit(code)


@contextmanager
def ended_with_reader() -> Iterator[None]:
    """For a command that only shows something, through a library which takes a reader that left for a fault."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)  # whoever called this in their own process outlives a worker's pipe


def _say_no_more() -> None:
    """What is buffered still goes nowhere, or Python's own last flush would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
