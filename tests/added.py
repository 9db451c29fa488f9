"""More in a folder of choices, as a person adds it, for as long as a test lasts; nothing is written to the folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    """See :class:`Added`."""
    with ExitStack() as stack:

        def add(choices: Choices, name: str, text: str) -> None:
            folder = tmp_path / "added" / choices.package
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.py").write_text(text)
            stack.enter_context(extended(choices.package, folder))

        yield add


@contextmanager
def extended(package: str, folder: Path) -> Iterator[None]:
    """The modules in ``folder`` belong to ``package`` as well."""
    places: list[str] = import_module(package).__path__  # type: ignore[assignment]
    names = [f"{package}.{path.stem}" for path in folder.iterdir()]
    places.append(str(folder))
    _forget()
    yield
    places.remove(str(folder))
    for module in [module for module in sys.modules if module.startswith(tuple(names))]:
        sys.modules.pop(module)
    _forget()


def _forget() -> None:
    """Names of files and the schema with them are kept."""
    invalidate_caches()
    of_choices._names.cache_clear()
    for of_hints in (hints._hints, hints.chosen_among, hints.group_classes):
        of_hints.cache_clear()
