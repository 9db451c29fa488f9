"""Sweeps and jobs as they are now: ``python -m src.status``; nothing is changed, MLflow is not needed."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

from src.config.paths import home_path
from src.config.surroundings import settle
from src.launch.errors import NewerFormatError
from src.launch.finding import NotFoundError, find
from src.launch.ledger import columns, read_ledger, read_sweep_state

WRONG_INPUT = 2


def main(words: list[str] | None = None) -> int:
    """Print the ledger; returns the exit code."""
    settle()
    parser = argparse.ArgumentParser(prog="python -m src.status", description=__doc__)
    parser.add_argument("sweep", nargs="?", help="a sweep's folder or id (default: all in --root)")
    parser.add_argument("--root", type=home_path, default=Path("multirun"), help="where sweeps lie (default: multirun)")
    parser.add_argument("--watch", action="store_true", help="refresh until Ctrl-C")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON array of jobs")
    form.add_argument("--csv", action="store_true", help="one line a job")
    options = parser.parse_args(words)
    newer: list[str] = []
    try:
        folder = None if options.sweep is None else find(options.sweep, options.root)[0]
        sweeps = read_ledger(options.root, newer) if folder is None else [read_sweep_state(folder)]
    except (NotFoundError, NewerFormatError) as error:
        sys.stderr.write(f"sweep: {error.problems[0] if isinstance(error, NewerFormatError) else error}\n")
        return WRONG_INPUT
    sys.stderr.write("".join(f"left out: {line}\n" for line in newer))
    known = [sweep for sweep in sweeps if sweep is not None]
    if options.json or options.csv:
        rows = columns([job for sweep in known for job in sweep.jobs])
        if options.json:
            print(json.dumps(rows, indent=1))
        elif rows:
            writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return 0
    from rich.console import Console  # noqa: PLC0415  # machines need none of it
    from rich.live import Live  # noqa: PLC0415

    from src.launch.board import board  # noqa: PLC0415

    console = Console()
    if not options.watch:
        console.print(board(known), soft_wrap=not console.is_terminal)
        return 0
    try:
        with Live(board(known), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                time.sleep(1.0)
                again = read_ledger(options.root) if folder is None else [read_sweep_state(folder)]
                live.update(board([sweep for sweep in again if sweep is not None]), refresh=True)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
