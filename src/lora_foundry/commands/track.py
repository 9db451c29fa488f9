"""Log in MLflow what a sweep's spool still holds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lora_foundry.config.called import command_line
from lora_foundry.config.paths import home_path
from lora_foundry.config.surroundings import settle


def main(words: list[str] | None = None) -> int:
    """Ingest each folder; 0 when everything is in MLflow, 1 when something is not, 2 for a wrong folder."""
    settle()
    parser = argparse.ArgumentParser(prog=command_line("track"), description=__doc__)
    parser.add_argument("sweep_dir", nargs="+", type=home_path, help="a sweep's folder, multirun/<date>/<time>-<id>")
    folders = parser.parse_intermixed_args(words).sweep_dir

    from lora_foundry.tracking.store import prepare_environment

    prepare_environment()
    return max(_ingest(folder) for folder in folders)


def _ingest(sweep_dir: Path) -> int:
    from lora_foundry.tracking.errors import TrackingError, in_one_line, passing_errors
    from lora_foundry.tracking.orphans import settle

    try:
        track = settle(sweep_dir.absolute())
    except TrackingError as error:
        print(error, file=sys.stderr)
        return 2
    except passing_errors() as error:
        print(f"{sweep_dir}: not logged, try again later: {in_one_line(error)}", file=sys.stderr)
        return 1
    states = ", ".join(f"{track.jobs[index].name} {track.states.get(index)}" for index in track.jobs)
    print(f"{sweep_dir}: all in {track.uri}, experiment {track.experiment} ({states})")
    return 0
