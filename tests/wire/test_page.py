"""The page that lists what processes say to each other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest

from docs.configuration import field_notes
from docs.wire import PAGE, TABLES, page, row
from lora_foundry.wire.lines import Line


def test_the_tables_of_the_architecture_are_current() -> None:
    text = PAGE.read_text()
    assert text == page(text), "run `make docs`"


def test_every_key_of_every_kind_is_explained() -> None:
    """Its own keys, that is: those that all kinds of a file have stand above the table."""
    for _, kinds in TABLES.values():
        for cls in kinds.types:
            own = set(cls.__annotations__) - {"tag"} - (set() if cls.tag != "worker" else {"state"})
            common = {field.name for base in cls.__bases__ for field in dataclasses.fields(base)}
            assert own - common <= field_notes(cls).keys(), cls


def test_a_kind_is_one_row() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Seen(Line):
        """Somebody was seen.

        Attributes:
            who: Their name,
                or ``null``.
        """

        tag: ClassVar[str] = "seen"
        who: str | None

    assert row(Seen) == "| `seen` | Somebody was seen. | `who`: Their name, or `null`. |"


def test_a_page_without_a_tables_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 places for the table of commands, allowed is one"):
        page("# nothing here")
