"""``python -m src.predict`` in a checkout; it is ``lora-foundry predict``: :mod:`lora_foundry.commands.predict`."""

from lora_foundry.commands.predict import main
from lora_foundry.config.ending import run

if __name__ == "__main__":
    run(main)
