"""The values that the room passes on, and the error that lists everything wrong with a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lora_foundry.config.unicode import printable
from lora_foundry.config.warned import Warned

_SHOWN = 50


class DataError(ValueError):
    """One or more problems of a data set; ``problems`` holds a line for each, the message the first fifty."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems = [printable(line) for line in problems]
        count = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
        lines = [f"  - {line}" for line in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"  - and {len(problems) - _SHOWN} more")
        super().__init__(f"The data has {count}:\n" + "\n".join(lines))


class Cell(NamedTuple):
    """What a format says of an image: where it stands, the image's name and the caption, both as written."""

    where: str
    name: str
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One image and its caption as a folder lists them, before the image is opened.

    Attributes:
        where: The place of the row in words, such as ``photos/metadata.csv line 3``.
        image: Absolute path, links followed.
        name: The image's path from the data folder on, parts joined by ``/``.
        caption: Text as written, without surrounding white space.
        repeats: How often the image counts in an epoch.
    """

    where: str
    image: Path
    name: str
    caption: str
    repeats: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One image that was read whole, and the caption that the base sees.

    Attributes:
        image: Absolute path.
        caption: Text with ``data.caption_prefix`` in front.
        digest: sha256 of the file's bytes, hexadecimal.
        repeats: How often it counts in an epoch.
        name: The image's name in its folder, for messages: a link's, where ``image`` is what it leads to.
    """

    image: Path
    caption: str
    digest: str
    repeats: int = 1
    name: str = ""

    @property
    def shown(self) -> str:
        """What the image is called in messages."""
        return self.name or self.image.name


@dataclass(slots=True)
class Findings:
    """What reading and checking a data set brought up, in the order found.

    Attributes:
        faults: Problems of a whole folder or setting; they stop a job whatever ``data.on_bad`` says.
        bad_rows: Problems of single rows, which ``data.on_bad=skip`` passes over.
        notes: What the user is warned of, which stops nothing.
    """

    faults: list[str] = field(default_factory=list)
    bad_rows: list[str] = field(default_factory=list)
    notes: list[Warned] = field(default_factory=list)

    def note(self, topic: str, text: str) -> None:
        """Warn of something."""
        self.notes.append(Warned(topic=topic, text=printable(text)))


def prefixed(caption: str, prefix: str) -> str:
    """``caption`` behind the trigger word, as the base sees it; the prefix alone where there is no caption."""
    gap = " " if prefix and not prefix[-1].isspace() else ""
    return f"{prefix}{gap}{caption}" if caption else prefix.strip()
