"""``python -m src.track`` in a checkout; it is ``lora-foundry track``: :mod:`lora_foundry.commands.track`."""

from lora_foundry.commands.track import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
