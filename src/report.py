"""``python -m src.report`` in a checkout; it is ``lora-foundry report``: :mod:`lora_foundry.commands.report`."""

from lora_foundry.commands.report import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
