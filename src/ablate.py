"""``python -m src.ablate`` in a checkout; it is ``lora-foundry ablate``: :mod:`lora_foundry.commands.ablate`."""

from lora_foundry.commands.ablate import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
