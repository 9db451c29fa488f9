"""Try failed jobs again: ``python -m src.retry [sweep|job]``, which is ``src.resume --failed``."""

from __future__ import annotations

import sys

from src.config.collector import before_exit
from src.resume import main

if __name__ == "__main__":
    code = main(failed=True)
    before_exit()
    sys.exit(code)
