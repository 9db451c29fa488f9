"""``python -m src.retry`` in a checkout; it is ``lora-foundry retry``: :mod:`lora_foundry.commands.retry`."""

from lora_foundry.commands.retry import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
