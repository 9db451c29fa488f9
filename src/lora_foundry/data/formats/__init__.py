"""Formats of a folder of captioned images, a file each; what such a file tells is a :class:`FormatChoice`.

There are two kinds. A :class:`TableFormat` reads a file that lists the images of its folder and of those below. An
:class:`ImageFormat` says of each image by itself what its caption is. :mod:`lora_foundry.data.formats.auto` chooses
among them. None of them imports torch or opens an image: a folder of 10,000 images is read in about a second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lora_foundry.config.choices import FORMATS, Choice
from lora_foundry.data.reading import Reading
from lora_foundry.data.records import Cell, Findings
from lora_foundry.data.scan import Scan, few


@dataclass(frozen=True, kw_only=True, slots=True)
class Uses:
    """What is read in one folder.

    Attributes:
        tables: Formats whose tables are looked for.
        images: What has the captions of images that no table lists; None passes them over.
    """

    tables: tuple[TableFormat, ...] = ()
    images: ImageFormat | None = None


class FormatChoice(Choice, ABC):
    """One way in which captions lie with images (``data.captions``).

    Attributes:
        wordless: Whether an image may be without a caption, since ``data.caption_prefix`` alone is one.
    """

    wordless: ClassVar[bool] = False

    @abstractmethod
    def uses(self, found: Scan) -> Uses:
        """What reads ``found`` where this was asked for."""


class TableFormat(FormatChoice):
    """Reads tables. One that is there goes before all captions below its folder; two in one folder are refused.

    Attributes:
        names: What such a file is called, in small letters. Where nothing else in a folder has captions, another file
            of the same ending is taken for one, if its first row can be read.
    """

    names: ClassVar[tuple[str, ...]]

    def uses(self, found: Scan) -> Uses:  # noqa: ARG002
        return Uses(tables=(self,))

    @abstractmethod
    def cells(self, table: Path, label: str, findings: Findings) -> Iterator[Cell]:
        """The rows of a table, in its order.

        Args:
            table: The file.
            label: What it is called in messages.
            findings: Takes what is wrong, with the line: with the table as a whole as a fault, with a row as a bad row.
        """


class ImageFormat(FormatChoice):
    """Has the captions of single images.

    Attributes:
        suffixes: Endings of files beside images that it reads; others there are told of.
        looks: Whether it opens files; where it does not, nothing that lies in the folder is looked into.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    looks: ClassVar[bool] = True

    def uses(self, found: Scan) -> Uses:  # noqa: ARG002
        return Uses(images=self)

    def claims(self, found: Scan) -> bool:  # noqa: ARG002
        """Whether ``data.captions=auto`` takes it for the images that no table lists."""
        return False

    @abstractmethod
    def cells(self, found: Scan, images: Sequence[Path], reading: Reading, findings: Findings) -> Iterator[Cell]:
        """The captions of ``images``; one that has none is a bad row, with what to do.

        Args:
            found: What lies in the folder.
            images: Those that no table lists, sorted.
            reading: How the folder is read.
            findings: Takes what is wrong.
        """


class NameFormat(ImageFormat):
    """Takes captions from names; files with captions are told of and not used."""

    looks = False

    def cells(self, found: Scan, images: Sequence[Path], reading: Reading, findings: Findings) -> Iterator[Cell]:
        unused = [*found.tables, *(path for paths in found.texts.values() for path in paths)]
        if unused:
            text = f"{found.label}: {len(unused)} files with captions ({few(sorted(unused))}) are not used"
            findings.note("captions", f"{text}: data.captions={reading.captions}")
        for image in images:
            yield cell_of(found, image, self.words(found, image, reading))

    @abstractmethod
    def words(self, found: Scan, image: Path, reading: Reading) -> str:
        """The caption of an image."""


def cell_of(found: Scan, image: Path, caption: str) -> Cell:
    """What is said of an image itself."""
    return Cell(found.shown(image), str(image.relative_to(found.root)), caption)


def format_choice(name: str) -> FormatChoice:
    """The format of that name (``data.captions``).

    Raises:
        LookupError: When there is none: a folder may have been read by one that is gone.
    """
    return FORMATS.load(name, FormatChoice)


def every_format() -> tuple[FormatChoice, ...]:
    """All there are, by name."""
    return tuple(format_choice(name) for name in FORMATS.names())


def tables_by_name() -> Mapping[str, TableFormat]:
    """What a table is called, in small letters, to what reads it."""
    return {name: one for one in every_format() if isinstance(one, TableFormat) for name in one.names}
