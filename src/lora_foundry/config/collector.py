"""Python's garbage collector, kept out of importing and ending.

The libraries below a training make millions of objects that live as long as the process: looking through them
again and again takes a sixth of the time of importing them, and once more a second at the process's end.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Collect nothing within."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def before_exit() -> None:
    """Leave the memory to the operating system: what is registered to run at exit runs, no collection does."""
    gc.disable()
    gc.freeze()
