"""``python -m src.find_lr`` in a checkout; it is ``lora-foundry find_lr``: :mod:`lora_foundry.commands.find_lr`."""

from lora_foundry.commands.find_lr import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
