"""One more file in a folder of choices, as a person adds one, for as long as a test lasts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Protocol

import pytest

from lora_foundry.config import choices as of_choices
from lora_foundry.config import hints
from lora_foundry.config.choices import Choices


class Added(Protocol):
    """Adds ``<name>.py`` with ``text`` to what can be chosen."""

    def __call__(self, choices: Choices, name: str, text: str) -> None: ...


@pytest.fixture
def added(tmp_path: Path) -> Iterator[Added]:
    """See :class:`Added`; the folder itself is not written to."""
    extended: list[tuple[list[str], str]] = []
    modules: list[str] = []

    def add(choices: Choices, name: str, text: str) -> None:
        folder = tmp_path / "added" / choices.package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        places: list[str] = import_module(choices.package).__path__  # type: ignore[assignment]
        places.append(str(folder))
        extended.append((places, str(folder)))
        modules.append(f"{choices.package}.{name}")
        _forget()

    yield add
    for places, folder in extended:
        places.remove(folder)
    for module in modules:
        sys.modules.pop(module, None)
    _forget()


def _forget() -> None:
    """Names of files and the schema with them are kept."""
    invalidate_caches()
    of_choices._names.cache_clear()
    hints._hints.cache_clear()
