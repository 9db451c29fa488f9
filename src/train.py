"""Train LoRA adapters: ``python -m src.train lora.rank=4,8,16 -m``; ``--help`` says the rest."""

from __future__ import annotations

import sys
from typing import NoReturn

import hydra
from omegaconf import DictConfig

from src.config.collector import before_exit
from src.config.paths import PROJECT_ROOT
from src.config.surroundings import settle
from src.launch.argv import arrange
from src.launch.check import CONFIG_DIRS, group_options, problems_of
from src.launch.outcome import INTERRUPTED, OK, OUTCOME, WRONG_INPUT


@hydra.main(version_base="1.3", config_path=str(PROJECT_ROOT / "conf"), config_name="train")
def _hydra(_: DictConfig) -> NoReturn:
    msg = (
        "jobs train in worker processes that the launcher starts; hydra/launcher=pack was replaced by one that does not"
    )
    raise RuntimeError(msg)


def main() -> int:
    """Run the command line in ``sys.argv``; returns the exit code."""
    settle()
    OUTCOME.exit_code = OK
    line = arrange(sys.argv[1:])
    if line.overrides:
        groups = group_options([*CONFIG_DIRS, *line.config_dirs()])
        problems = problems_of(line.overrides, groups, sweeping=line.sweep or line.info)
        if problems:
            sys.stderr.write("\n".join(["The command line is wrong:", *(f"  - {p}" for p in problems), ""]))
            return WRONG_INPUT
    sys.argv[1:] = line.words()
    try:
        _hydra()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED
    return OUTCOME.exit_code


if __name__ == "__main__":
    code = main()
    before_exit()
    sys.exit(code)
