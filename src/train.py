"""Train LoRA adapters: ``python -m src.train lora.rank=4,8,16 -m``; ``--help`` says the rest."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from src.config.ending import ended_with_reader, run
from src.config.errors import SweepError
from src.config.surroundings import settle
from src.config.version import told_version
from src.launch.farm.outcome import INTERRUPTED, OK, OUTCOME, WRONG_INPUT
from src.launch.points.argv import arrange
from src.launch.points.check import problems_of_line


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
        from src.launch.points.completion import complete

        print(complete(line.overrides[0]))
        return OK
    from src.launch.points.driving import drive

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


if __name__ == "__main__":
    run(main)
