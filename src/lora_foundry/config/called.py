"""How this program is called, so that what is printed as a command can be typed where its reader is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lora_foundry.config.paths import CHECKOUT, PACKAGE
from lora_foundry.config.quoting import shell

PROGRAM = "lora-foundry"
COMMANDS = {
    "train": "train one adapter, or a sweep of many",
    "resume": "go on with a sweep; what finished is not trained again",
    "status": "sweeps and jobs as they are now",
    "report": "one page of a sweep for a browser: which adapter to keep, and why",
    "stop": "end a sweep or one of its jobs cleanly, with a checkpoint",
    "retry": "try failed jobs again",
    "find_lr": "find the learning rate: many rates for a few samples as one pack",
    "ablate": "find images that do harm: a job again without one group of them at a time",
    "predict": "memory that a training takes, or what fits a card",
    "doctor": "what a training would meet on this machine, and how to mend it",
    "track": "log in MLflow what a sweep could not log while it ran",
}
"""Each command with what it does; a module of its name is in :mod:`lora_foundry.commands`."""


def called(command: str) -> tuple[str, ...]:
    """The words that start ``command``: as this process was started, ``python -m src.train`` or ``lora-foundry train``.

    Args:
        command: One of :data:`COMMANDS`.
    """
    started = Path(sys.argv[0])
    if CHECKOUT is None or started.name == PROGRAM or started.parent == PACKAGE:
        return PROGRAM, command
    return "python", "-m", f"src.{command}"


def command_line(command: str, *words: str | os.PathLike[str]) -> str:
    """``command`` with its words, as a line for a shell."""
    return shell([*called(command), *words])
