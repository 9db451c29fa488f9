"""``python -m src.resume`` in a checkout; it is ``lora-foundry resume``: :mod:`lora_foundry.commands.resume`."""

from lora_foundry.commands.resume import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
