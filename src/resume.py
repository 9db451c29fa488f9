"""Go on with a sweep: ``python -m src.resume [sweep]``; what finished is not trained again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from src.config.collector import before_exit
from src.config.paths import home_path
from src.config.surroundings import settle
from src.launch.outcome import FAILED, OK, OUTCOME, WRONG_INPUT


def main(words: list[str] | None = None, *, failed: bool = False) -> int:
    """Continue what is left; returns the exit code.

    Args:
        words: The command line.
        failed: Whether failed jobs are tried again without being asked for.
    """
    settle()
    parser = argparse.ArgumentParser(prog="python -m src.resume", description=__doc__)
    parser.add_argument("what", nargs="?", help="a sweep's or job's folder, id or name (default: the newest sweep)")
    parser.add_argument("--failed", action="store_true", default=failed, help="try failed jobs again, too")
    parser.add_argument("--root", type=home_path, default=Path("multirun"), help="where sweeps lie (default: multirun)")
    options = parser.parse_args(words)
    from hydra_plugins.foundry._data import data_changes  # noqa: PLC0415
    from hydra_plugins.foundry._forecast import TracedForecast  # noqa: PLC0415
    from hydra_plugins.foundry._picture import draw_picture  # noqa: PLC0415
    from hydra_plugins.foundry._preflight import LOOKS  # noqa: PLC0415  # --help needs none of these
    from src.launch.engines import ENGINES  # noqa: PLC0415
    from src.launch.finding import NotFoundError, find  # noqa: PLC0415
    from src.launch.folders import refuse_empty  # noqa: PLC0415
    from src.launch.points import SweepError  # noqa: PLC0415
    from src.launch.preflight import ready  # noqa: PLC0415
    from src.launch.resume import find_unfinished, stored_launcher  # noqa: PLC0415
    from src.launch.settings import Settings  # noqa: PLC0415
    from src.launch.sweep import run_resumed, settle_sweep  # noqa: PLC0415

    OUTCOME.exit_code = OK
    try:
        folder, job = find(options.what, options.root)
        refuse_empty(folder)
        found = find_unfinished(
            folder.absolute(),
            failed=options.failed or job is not None,
            only=None if job is None else {job},
            changed=data_changes,
        )
        resumed = ready(found, LOOKS)
        sys.stderr.write("".join(f"Left out: {line}\n" for line in resumed.refused))
        if not resumed.jobs and job is None and settle_sweep(folder.absolute(), draw_picture):
            return OUTCOME.exit_code
        if not resumed.jobs:
            print(*resumed.notes, f"Nothing is left to do in {folder} (python -m src.status {folder})", sep="\n")
            return OK
        settings = Settings.of(stored_launcher(resumed))
        settings.check(tuple(ENGINES))
        outcomes = run_resumed(resumed, settings, draw_picture, forecast=TracedForecast())
    except (NotFoundError, SweepError) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_INPUT
    if any(outcome.state == "FAILED" for outcome in outcomes):
        OUTCOME.worsen(FAILED)
    if resumed.refused:
        OUTCOME.worsen(WRONG_INPUT)
    return OUTCOME.exit_code


if __name__ == "__main__":
    code = main()
    before_exit()
    sys.exit(code)
