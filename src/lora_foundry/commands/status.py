"""Sweeps and jobs as they are now; nothing is changed, MLflow is not needed."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.config.surroundings import settle
from lora_foundry.launch.records.finding import NotFoundError, add_root, find
from lora_foundry.launch.records.ledger import Sweep, columns, read_ledger, sweep_at

WRONG_INPUT = 2


def main(words: list[str] | None = None) -> int:
    """Print the ledger; returns the exit code."""
    settle()
    parser = argparse.ArgumentParser(prog=command_line("status"), description=__doc__)
    parser.add_argument("sweep", nargs="?", help="a sweep's folder or id (default: all in --root)")
    add_root(parser)
    parser.add_argument("--all", action="store_true", help="show the jobs of finished sweeps, too")
    parser.add_argument("--watch", action="store_true", help="refresh until Ctrl-C")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON array of jobs")
    form.add_argument("--csv", action="store_true", help="one line a job")
    options = parser.parse_args(words)
    unread: list[str] = []
    try:
        folder = None if options.sweep is None else find(options.sweep, options.root)[0]
        sweeps = _look(folder, options.root, unread)
    except (NotFoundError, SweepError) as error:
        sys.stderr.write(f"sweep: {error.problems[0] if isinstance(error, SweepError) else error}\n")
        return WRONG_INPUT
    sys.stderr.write("".join(f"left out: {line}\n" for line in unread))
    if options.json or options.csv:
        _write_rows(sweeps, as_json=options.json)
        return 0
    if unread and not sweeps and not options.watch:
        return 0
    from lora_foundry.launch.screen.watching import show, watch

    unfold = options.all or folder is not None
    if options.watch:
        return watch(lambda: _look(folder, options.root, []), unfold=unfold)
    return show(sweeps, unfold=unfold)


def _look(folder: Path | None, root: Path, unread: list[str]) -> list[Sweep]:
    return read_ledger(root, unread) if folder is None else [sweep_at(folder)]


def _write_rows(sweeps: list[Sweep], *, as_json: bool) -> None:
    rows = list(columns(sweeps))
    if as_json:
        print(json.dumps(rows, indent=1))
    elif rows:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
