"""Find the learning rate: many rates for a few samples as one pack; minutes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lora_foundry.config.called import command_line
from lora_foundry.config.surroundings import settle
from lora_foundry.launch.farm.outcome import FAILED, INTERRUPTED, OK, OUTCOME, WRONG_INPUT
from lora_foundry.launch.points.argv import arrange
from lora_foundry.launch.points.check import problems_of_line

if TYPE_CHECKING:
    from lora_foundry.search.rates import Asked


def main(words: list[str] | None = None) -> int:
    """Train, choose and tell; returns the exit code."""
    settle()
    parser = argparse.ArgumentParser(prog=command_line("find_lr"), description=__doc__)
    parser.add_argument("words", nargs="*", metavar="key=value", help="of the training; a list is tried value by value")
    parser.add_argument("--rates", type=int, default=9, help="how many (default: 9)")
    parser.add_argument("--low", type=float, help="the lowest (default: a thirtieth of the base's usual rate)")
    parser.add_argument("--high", type=float, help="the highest (default: thirty times the base's usual rate)")
    parser.add_argument("--samples", type=int, default=160, help="that each rate sees (default: 160)")
    options = parser.parse_intermixed_args(words)
    from lora_foundry.config.errors import SweepError
    from lora_foundry.config.parse import ConfigError
    from lora_foundry.search.rates import Asked

    OUTCOME.exit_code, OUTCOME.sweep_dir = OK, None
    asked = Asked(
        words=tuple(options.words), rates=options.rates, low=options.low, high=options.high, samples=options.samples
    )
    try:
        asked.check()
        return _find(asked)
    except (ConfigError, SweepError) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED


def _find(asked: Asked) -> int:
    from lora_foundry.config.errors import SweepError
    from lora_foundry.judge.rates import choose
    from lora_foundry.launch.points.driving import drive
    from lora_foundry.launch.points.offline import compose_all
    from lora_foundry.report.rates import draw, told
    from lora_foundry.search.rates import KEY, curves_of

    plain = arrange(list(asked.words))
    if problems := [*plain.problems, *problems_of_line(arrange([*asked.words, "-m"]))]:
        raise SweepError(problems)
    config = compose_all(list(asked.words))[0].config
    if config.data.folds is not None:
        raise SweepError(["data.folds: curves of folds are of different images; find the rate without, then fold"])
    drive(arrange(asked.line(config)))
    folder = OUTCOME.sweep_dir
    if folder is None:
        return OUTCOME.exit_code
    found = [(one, choose(one.curves)) for one in curves_of(folder)]
    for one, choice in found:
        print("", *told(one.setting, one.curves, choice), sep="\n")
        if choice is not None:
            print(command_line("train", *asked.settled(one.setting), f"{KEY}={choice.rate:g}"))
    settings = [(one.setting, one.curves, None if choice is None else choice.rate) for one, choice in found]
    print(f"Picture: {draw(folder, settings)}")
    if OUTCOME.exit_code not in (OK, FAILED):
        return OUTCOME.exit_code
    return OK if all(choice for _, choice in found) else FAILED  # a rate that is too high fails: that is an answer
