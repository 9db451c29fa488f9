"""No caption but the trigger word, ``data.caption_prefix``, for every image."""

from __future__ import annotations

from pathlib import Path

from lora_foundry.config.schema import DataConfig
from lora_foundry.data.formats import NameFormat
from lora_foundry.data.reading import Reading
from lora_foundry.data.scan import Scan


class _Prefix(NameFormat):
    wordless = True

    def problems(self, group: DataConfig, /) -> list[str]:
        if group.caption_prefix.strip():
            return []
        return [
            "data.captions=prefix: data.caption_prefix is the caption of every image then, got an empty text; "
            "give one such as data.caption_prefix=sks"
        ]

    def words(self, found: Scan, image: Path, reading: Reading) -> str:  # noqa: ARG002
        return ""


CHOICE = _Prefix()
