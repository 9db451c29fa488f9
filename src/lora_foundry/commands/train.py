"""Train LoRA adapters: ``lora.rank=4,8,16 -m``; ``--help`` says the rest."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from lora_foundry.config.ending import ended_with_reader
from lora_foundry.config.errors import SweepError
from lora_foundry.config.surroundings import settle
from lora_foundry.config.version import told_version
from lora_foundry.launch.farm.outcome import INTERRUPTED, OK, OUTCOME, WRONG_INPUT
from lora_foundry.launch.points.argv import arrange
from lora_foundry.launch.points.check import problems_of_line


def main() -> int:
    """Run the command line in ``sys.argv``; returns the exit code."""
    settle()
    OUTCOME.exit_code = OK
    line = arrange(sys.argv[1:])
    problems = [*line.problems, *problems_of_line(line)]
    if problems:
        sys.stderr.write("\n".join(["The command line is wrong:", *(f"  - {p}" for p in problems), ""]))
        return WRONG_INPUT
    if "--version" in line.flags:
        print(told_version())
        return OK
    if "--shell-completion" in line.flags:
        from lora_foundry.launch.points.completion import complete

        print(complete(line.overrides[0]))
        return OK
    from lora_foundry.launch.points.driving import drive

    try:
        with ended_with_reader() if line.info else nullcontext():
            drive(line)
    except SweepError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED
    return OUTCOME.exit_code
