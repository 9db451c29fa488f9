"""End a sweep or one of its jobs cleanly, with a checkpoint."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.ending import INTERRUPTED
from lora_foundry.config.errors import SweepError
from lora_foundry.config.surroundings import settle
from lora_foundry.launch.records.finding import NotFoundError, add_root, find, root_words
from lora_foundry.launch.records.journal import is_held
from lora_foundry.launch.records.ledger import sweep_at
from lora_foundry.wire.control import ask_to_stop

OK, NOT_YET, WRONG_INPUT = 0, 1, 2


def main(words: list[str] | None = None) -> int:
    """Ask, then wait until it is done; returns the exit code."""
    settle()
    parser = argparse.ArgumentParser(prog=command_line("stop"), description=__doc__)
    parser.add_argument("what", help="a sweep's folder or id, a job's folder, or an adapter's name")
    add_root(parser)
    parser.add_argument("--wait", type=float, default=120.0, metavar="S", help="seconds to wait for the end (120)")
    options = parser.parse_args(words)
    try:
        folder, job = find(options.what, options.root)
        problem = _problem(folder, job)
        if problem is None:
            ask_to_stop(folder, job)
            return _wait(folder, job, [options.what, *root_words(options.root)], options.wait)
    except SweepError as error:
        problem = error.problems[0]
    except (NotFoundError, OSError) as error:
        problem = str(error)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; what was asked stays asked.\n")
        return INTERRUPTED
    sys.stderr.write(f"{problem}\n")
    return WRONG_INPUT


def _wait(folder: Path, job: int | None, again: list[str], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _ended(folder, job):
            go_on = command_line("resume", *([folder] if job is None else again))
            print(f"stopped; to go on{_when(folder, job)}: {go_on}")
            return OK
        time.sleep(0.2)
    show = command_line("status", folder)
    sys.stderr.write(f"asked, but not stopped after {seconds:g} s; {show} shows how far it is\n")
    return NOT_YET


def _problem(folder: Path, job: int | None) -> str | None:
    """Why there is nothing to stop."""
    if not is_held(folder):
        return f"{folder} is not running"
    return f"job {job} of {folder} has ended already" if job is not None and _ended(folder, job) else None


def _when(folder: Path, job: int | None) -> str:
    return " when the others are done" if job is not None and is_held(folder) else ""


def _ended(folder: Path, job: int | None) -> bool:
    if job is None:
        return not is_held(folder)
    sweep = sweep_at(folder)
    return not sweep.running or sweep.state.jobs[job].ended
