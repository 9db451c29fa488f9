"""The name of an image's folder as its caption; of a folder of kohya's, ``10_anna woman``, the words."""

from __future__ import annotations

from pathlib import Path

from lora_foundry.data.formats import NameFormat
from lora_foundry.data.kohya import as_words, folder_of
from lora_foundry.data.reading import Reading
from lora_foundry.data.scan import Scan


class _Folder(NameFormat):
    def words(self, found: Scan, image: Path, reading: Reading) -> str:
        place = image.parent.relative_to(found.root)
        kohyas = folder_of(found.name, image.relative_to(found.root)) if reading.repeats else None
        name = place.name or found.name
        return kohyas.words if kohyas is not None and kohyas.name == name else as_words(name)


CHOICE = _Folder()
