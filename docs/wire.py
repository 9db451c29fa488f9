"""Write docs/architecture.md's tables of commands, events and journal lines from the types of ``lora_foundry.wire``.

Run ``make docs`` after a change of a type; a test holds that the tables are current.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.configuration import field_notes  # noqa: E402 - needs the path above
from lora_foundry.wire.commands import COMMANDS  # noqa: E402
from lora_foundry.wire.events import EVENTS  # noqa: E402
from lora_foundry.wire.journal import JOURNAL  # noqa: E402
from lora_foundry.wire.lines import Kinds, Line, told_apart_by  # noqa: E402

PAGE = ROOT / "docs" / "architecture.md"
TABLES: dict[str, tuple[str, Kinds[Any]]] = {
    "commands": ("command", COMMANDS),
    "events": ("kind", EVENTS),
    "journal": ("event", JOURNAL),
}
"""The name of a table in the page, to the head of its first column and what it lists."""


def row(cls: type[Line]) -> str:
    """One kind of line: its tag, what it tells, and its own keys."""
    state = told_apart_by(cls)
    notes = field_notes(cls)
    keys = " ".join(f"`{field.name}`: {notes[field.name]}" for field in fields(cls) if field.name in notes)
    kind = f"`{cls.tag}`" if state is None else f"`{cls.tag}`, `{state}`"
    summary = " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())
    return f"| {kind} | {summary} | {keys} |".replace("``", "`")


def table(head: str, kinds: Kinds[Any]) -> list[str]:
    """All kinds of a file or a pipe as Markdown rows."""
    return [f"| {head} | what it tells | keys |", "|---|---|---|", *map(row, kinds.types)]


def page(text: str) -> str:
    """``text`` with each table written anew between its marks.

    Raises:
        ValueError: When a table's marks are missing.
    """
    for name, (head, kinds) in TABLES.items():
        begin, end = (
            f"<!-- {name}, written by `make docs` from src/lora_foundry/wire/{name}.py -->",
            f"<!-- end of {name} -->",
        )
        between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        written = "\n".join([begin, "", *table(head, kinds), "", end])
        text, times = between.subn(lambda _, written=written: written, text)
        if times != 1:
            msg = f"{PAGE.name}: got {times} places for the table of {name}, allowed is one, between {begin} and {end}"
            raise ValueError(msg)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
