"""What the program says is looked for under one name: a changed sentence is changed in one place of the tests."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import phrases
from tests.root import PROJECT_ROOT

_WORDS = 3  # shorter ones are the same by chance


def _texts(path: Path) -> Iterator[str]:
    """Text constants of a file, without its docstrings."""
    alone = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):  # parents come before their children
        if isinstance(node, ast.Expr):
            alone.add(id(node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield " ".join(node.value.split())


@pytest.fixture(scope="module")
def said() -> str:
    """All that the program may say."""
    return "\n".join(text for path in sorted((PROJECT_ROOT / "src").rglob("*.py")) for text in _texts(path))


def test_no_sentence_of_the_program_is_written_in_two_files_of_tests(said: str) -> None:
    written: dict[str, set[str]] = defaultdict(set)
    for path in sorted((PROJECT_ROOT / "tests").rglob("*.py")):
        for text in _texts(path):
            phrase = text.strip(" :;,.()")
            if len(phrase.split()) >= _WORDS:
                written[phrase].add(str(path.relative_to(PROJECT_ROOT)))
    twice = {phrase: files for phrase, files in written.items() if len(files) > 1}
    assert {phrase: files for phrase, files in twice.items() if phrase in said} == {}, "give it a name in phrases.py"


def test_every_named_phrase_is_one_that_the_program_says(said: str) -> None:
    named = {name: value for name, value in vars(phrases).items() if name.isupper()}
    assert [name for name, value in named.items() if value not in said] == []
