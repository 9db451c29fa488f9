"""``python -m src.status`` in a checkout; it is ``lora-foundry status``: :mod:`lora_foundry.commands.status`."""

from lora_foundry.commands.status import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
