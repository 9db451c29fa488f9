"""``lora-foundry COMMAND ...`` from any folder, which is ``python -m lora_foundry COMMAND ...``."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from typing import NoReturn

from lora_foundry.config.called import COMMANDS, PROGRAM
from lora_foundry.config.ending import run

WRONG_INPUT = 2


def main() -> int:
    """Run the command that ``sys.argv`` names, with the words behind it; returns the exit code."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        sys.argv[1:] = words
        code: int = import_module(f"lora_foundry.commands.{name}").main()
        return code
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        from lora_foundry.config.version import told_version

        print(told_version())
        return 0
    near = difflib.get_close_matches(name, COMMANDS, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    sys.stderr.write(f"{PROGRAM}: got {name!r}, allowed is one of {', '.join(COMMANDS)}{meant}\n")
    return WRONG_INPUT


def start() -> NoReturn:
    """What the console command calls."""
    run(main)


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {PROGRAM} {name.ljust(width)}  {about}" for name, about in COMMANDS.items())
    return (
        f"LoRA Foundry trains many LoRA adapters from one command and shows which one to keep.\n\n{listed}\n\n"
        f'Each has --help. Tab completion in bash: eval "$({PROGRAM} train -sc install=bash)"'
    )


if __name__ == "__main__":
    start()
