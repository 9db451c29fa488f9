"""Predict memory: ``model=sd15 data.batch_size=1,2,4 lora.rank=4,8``; nothing is trained."""

from __future__ import annotations

import argparse
import sys

from lora_foundry.config.called import command_line
from lora_foundry.config.parse import ConfigError
from lora_foundry.config.surroundings import settle

WRONG_INPUT = 2


def main() -> int:
    """Print the table that the command line asks for; returns the exit code."""
    settle()
    parser = argparse.ArgumentParser(
        prog=command_line("predict"),
        description="Peak memory of training, from the base's sizes alone. Values separated by commas make rows.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"as for {command_line('train')}")
    parser.add_argument("--members", type=_count, default=1, help="adapters trained together (default: 1)")
    parser.add_argument("--fits", type=_gib, metavar="GIB", help="what is the most that a card of GIB can train?")
    options = parser.parse_intermixed_args()
    from hydra.errors import HydraException

    from lora_foundry.launch.points.offline import compose_all
    from lora_foundry.launch.points.point import on_device
    from lora_foundry.models.protocol import BaseError
    from lora_foundry.wiring.here import besides_here, precision_here

    try:
        points = compose_all(options.overrides)
        points = on_device(points, "bf16-mixed" if options.fits is not None else precision_here())
        from lora_foundry.memory import table

        if options.fits is None:
            table.print_needs(points, options.members)
            sys.stdout.writelines(f"{line}\n" for line in besides_here([point.config for point in points]))
        else:
            table.print_fits(points, options.fits)
    except (ConfigError, BaseError, HydraException, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_INPUT
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        msg = f"got {text!r}, allowed is a whole number of at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        msg = f"got {text!r}, allowed is a number of GiB above 0"
        raise argparse.ArgumentTypeError(msg)
    return value
