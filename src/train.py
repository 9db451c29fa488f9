"""``python -m src.train`` in a checkout; it is ``lora-foundry train``: :mod:`lora_foundry.commands.train`."""

from lora_foundry.commands.train import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
