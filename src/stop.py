"""``python -m src.stop`` in a checkout; it is ``lora-foundry stop``: :mod:`lora_foundry.commands.stop`."""

from lora_foundry.commands.stop import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
