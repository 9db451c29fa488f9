"""Try failed jobs again: ``python -m src.retry [sweep|job]``, which is ``src.resume --failed``."""

from __future__ import annotations

from functools import partial

from src.config.ending import run
from src.resume import main

if __name__ == "__main__":
    run(partial(main, failed=True))
