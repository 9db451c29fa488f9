"""The process on a slot: ``python -m lora_foundry.worker --sweep-dir DIR``, commands on standard input."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from lora_foundry.config.collector import before_exit, importing
from lora_foundry.config.surroundings import forget_foreign, settle


def main() -> None:
    """Read commands, run packs, end when told to or when the launcher is gone."""
    settle()
    forget_foreign()  # whatever started it, `srun` for one, may have added its own
    parser = argparse.ArgumentParser(prog="python -m lora_foundry.worker", description=__doc__)
    parser.add_argument("--sweep-dir", type=Path, required=True, help="the sweep's folder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from lora_foundry.worker.commands import Commands  # light: commands are read while torch is imported

    commands = Commands(sys.stdin)
    commands.start()
    with importing():
        from lora_foundry.worker.run import work

    work(commands, arguments.sweep_dir.resolve())
    before_exit()


if __name__ == "__main__":
    main()
