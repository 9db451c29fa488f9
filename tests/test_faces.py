"""A room's ``__init__`` says which of its modules others may use, and others use no more of it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root import PROJECT_ROOT

SRC = PROJECT_ROOT / "src"
NOBODYS = {"lora_foundry.commands"}
"""Typed, and imported by no room."""


def _name(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in SRC.rglob("*.py")}


def _room(module: str) -> str | None:
    """``lora_foundry.data``; inside the launcher each room is one of its own. None for what is in no room."""
    parts = module.split(".")
    depth = 3 if parts[:2] == ["lora_foundry", "launch"] else 2
    room = ".".join(parts[:depth])
    return room if parts[0] == "lora_foundry" and MODULES.get(room, SRC).name == "__init__.py" else None


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _used() -> dict[str, set[str]]:
    """Each room's modules that somebody outside it imports."""
    used: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for name in _imported(path):
            room = _room(name) if name in MODULES else None
            if room is not None and room not in (_room(module), name):
                used[room].add(name.removeprefix(f"{room}."))
    return {room: names for room, names in used.items() if room not in NOBODYS}


USED = _used()


@pytest.mark.parametrize("room", sorted(USED))
def test_others_use_what_the_room_names_and_it_names_nothing_else(room: str) -> None:
    named = re.findall(
        r"^- ``([\w.]+)``: ", ast.get_docstring(ast.parse(MODULES[room].read_text())) or "", re.MULTILINE
    )
    assert set(named) == USED[room], f"say it in {MODULES[room].relative_to(PROJECT_ROOT)}, or let it be the room's own"
