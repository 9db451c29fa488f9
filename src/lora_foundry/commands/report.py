"""Write a sweep's report.html: which adapter to keep and why, in one file for any browser."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.config.surroundings import settle
from lora_foundry.launch.records.finding import NotFoundError, add_root, find

OK, NOT_WRITTEN, WRONG_INPUT = 0, 1, 2
_EVERY_S = 5.0


def main(words: list[str] | None = None) -> int:
    """Write it once, or again and again; returns the exit code."""
    settle()
    parser = argparse.ArgumentParser(prog=command_line("report"), description=__doc__)
    parser.add_argument("sweep", nargs="?", help="a sweep's folder or id (default: the newest sweep)")
    add_root(parser)
    parser.add_argument("--watch", action="store_true", help="write it anew while the sweep runs; the page follows")
    options = parser.parse_args(words)
    try:
        folder = find(options.sweep, options.root)[0]
        return _watch(folder) if options.watch else _write(folder)
    except (NotFoundError, SweepError) as error:
        sys.stderr.write(f"report: {error.problems[0] if isinstance(error, SweepError) else error}\n")
        return WRONG_INPUT
    except OSError as error:
        sys.stderr.write(f"report: {error}\n")
        return NOT_WRITTEN
    except KeyboardInterrupt:
        return OK


def _write(folder: Path) -> int:
    from lora_foundry.report.page import write_page
    from lora_foundry.wiring.told import told_of

    print(write_page(folder, told_of(folder)))
    return OK


def _watch(folder: Path) -> int:
    """Until the sweep ends; the last one that is written stays as it is."""
    from lora_foundry.report.page import write_page
    from lora_foundry.wiring.told import told_of

    named = False
    while True:
        sweep = told_of(folder)
        page = write_page(folder, sweep, every_s=_EVERY_S if sweep.running else None)
        if not named:
            print(page, flush=True)
            named = True
        if not sweep.running:
            return OK
        time.sleep(_EVERY_S)
