"""How a folder of images is read: the settings of :class:`~lora_foundry.config.schema.DataConfig` that count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lora_foundry.config.schema import DataConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The settings; their defaults are how folders were read before there was a choice.

    Attributes:
        captions: Where captions come from, as ``data.captions``.
        repeats: Whether ``10_anna woman`` is a folder of kohya's.
        follow_links: Whether links lead out of the folder.
    """

    captions: str = "auto"
    repeats: bool = False
    follow_links: bool = False

    @classmethod
    def of(cls, data: DataConfig) -> Reading:
        """As the configuration asks for it."""
        return cls(captions=data.captions, repeats=data.repeats == "auto", follow_links=data.follow_links)

    @classmethod
    def stored(cls, values: dict[str, Any]) -> Reading:
        """What an inventory wrote down.

        Raises:
            TypeError: When there is a setting that is not known.
        """
        return cls(**values)
