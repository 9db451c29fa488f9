"""Go on with a sweep; what finished is not trained again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.surroundings import settle
from lora_foundry.launch.farm.outcome import INTERRUPTED, OK, OUTCOME, WRONG_INPUT
from lora_foundry.launch.records.finding import NotFoundError, add_root, find


def main(words: list[str] | None = None, *, failed: bool = False) -> int:
    """Continue what is left; returns the exit code.

    Args:
        words: The command line.
        failed: Whether failed jobs are tried again without being asked for: ``retry``.
    """
    settle()
    about = "Try failed jobs of a sweep again, and go on with what is left of it." if failed else __doc__
    parser = argparse.ArgumentParser(prog=command_line("retry" if failed else "resume"), description=about)
    parser.add_argument("what", nargs="?", help="a sweep's or job's folder, id or name (default: the newest sweep)")
    if not failed:
        parser.add_argument("--failed", action="store_true", help="try failed jobs again, too")
    add_root(parser)
    options = parser.parse_args(words)
    from lora_foundry.config.errors import SweepError

    OUTCOME.exit_code = OK
    try:
        return _go_on(options.what, options.root, failed=failed or options.failed)
    except (NotFoundError, SweepError) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED


def _go_on(what: str | None, root: Path, *, failed: bool) -> int:
    from lora_foundry.config.errors import SweepError
    from lora_foundry.launch.farm.farm import Farm
    from lora_foundry.launch.farm.launching import tell_left_out
    from lora_foundry.launch.farm.left import go_on_searching, make_up_for_the_end, settings_of
    from lora_foundry.launch.farm.prepared import ready
    from lora_foundry.launch.records.folders import refuse_empty
    from lora_foundry.launch.records.leftover import wait_until_free
    from lora_foundry.launch.records.resume import find_unfinished, nothing_left
    from lora_foundry.launch.records.search import is_search
    from lora_foundry.wiring.outside import outside

    others = outside()
    found, job = find(what, root)
    folder = found.absolute()
    refuse_empty(folder)
    wait_until_free(folder)
    if job is None and not failed and is_search(folder):
        go_on_searching(folder)
        return OUTCOME.exit_code
    only = None if job is None else {job}
    left = find_unfinished(folder, failed=failed or job is not None, only=only, changed=others.changed)
    resumed = ready(left, others.looks)
    if resumed.jobs:
        tell_left_out(resumed.left_out)
        Farm.going_on(resumed, settings_of(resumed), others).train()
        return OUTCOME.exit_code
    settled = job is None and make_up_for_the_end(folder, others)
    if resumed.left_out:
        raise SweepError(resumed.left_out)
    if not settled:
        print(*resumed.notes, nothing_left(found), sep="\n")
    return OUTCOME.exit_code
