"""An image's own name as its caption: ``red_cup.png`` is a red cup."""

from __future__ import annotations

from pathlib import Path

from lora_foundry.data.formats import NameFormat
from lora_foundry.data.kohya import as_words
from lora_foundry.data.reading import Reading
from lora_foundry.data.scan import Scan


class _Name(NameFormat):
    def words(self, found: Scan, image: Path, reading: Reading) -> str:  # noqa: ARG002
        return as_words(image.stem)


CHOICE = _Name()
