"""Find images that do harm: a job again without one group of its images at a time, as one pack."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lora_foundry.config.called import command_line
from lora_foundry.config.surroundings import settle
from lora_foundry.launch.farm.outcome import INTERRUPTED, OK, OUTCOME, WRONG_INPUT
from lora_foundry.launch.points.argv import arrange
from lora_foundry.launch.records.finding import NotFoundError, add_root

if TYPE_CHECKING:
    from pathlib import Path

    from lora_foundry.search.removal import Asked


def main(words: list[str] | None = None) -> int:
    """Group, train, compare and tell; returns the exit code."""
    settle()
    parser = argparse.ArgumentParser(prog=command_line("ablate"), description=__doc__)
    about = "a job's folder or an adapter's name (an ablation's: what it found), and what is set otherwise (key=value)"
    parser.add_argument("words", nargs="*", metavar="job key=value", help=about)
    parser.add_argument("--by", choices=("folder", "tag", "kmeans"), help="default: folders, else k-means of latents")
    parser.add_argument("--groups", type=int, default=8, help="how many at most (default: 8)")
    parser.add_argument("--seeds", type=int, help="of each member (default: 1, and 2 of fewer than four groups)")
    add_root(parser)
    options = parser.parse_intermixed_args(words)
    from lora_foundry.config.errors import SweepError
    from lora_foundry.config.parse import ConfigError

    OUTCOME.exit_code, OUTCOME.sweep_dir = OK, None
    try:
        return _ablate(options)
    except (ConfigError, SweepError, NotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED


def _ablate(options: argparse.Namespace) -> int:
    from lora_foundry.config.length import total_steps
    from lora_foundry.launch.points.driving import drive
    from lora_foundry.search.removal import Asked, asked_of
    from lora_foundry.wiring.grouping import grouped

    job = options.words[0] if options.words and "=" not in options.words[0] else None
    folder, known = (None, ()) if job is None else asked_of(job, options.root)
    words = tuple(options.words[job is not None :])
    asked = Asked(words=(*known, *words), groups=options.groups, seeds=options.seeds)
    if folder is not None:
        return _tell(folder, asked)
    asked.check()
    config = asked.config()
    found = grouped(config, options.by, options.groups)
    print(f"{found.images} training images in {len(found.groups)} groups by {found.by}", flush=True)
    drive(arrange(asked.line([one.without for one in found.groups], total_steps(config, found.epoch), config)))
    return OUTCOME.exit_code if OUTCOME.sweep_dir is None else _tell(OUTCOME.sweep_dir, asked)


def _tell(folder: Path, asked: Asked) -> int:
    from lora_foundry.report.removal import draw, told
    from lora_foundry.search.removal import removals_of

    found = removals_of(folder)
    print("", *told(found), sep="\n")
    if harmful := [pattern for one in found.effects if one.harms for pattern in one.without]:
        print(command_line("train", *asked.without(harmful)))
    print(f"Picture: {draw(folder, found)}")
    return OUTCOME.exit_code
