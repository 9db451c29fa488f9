"""``python -m src.doctor`` in a checkout; it is ``lora-foundry doctor``: :mod:`lora_foundry.commands.doctor`."""

from lora_foundry.commands.doctor import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
