"""What the program says is looked for under one name: a changed sentence is changed in one place of the tests."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests import phrases
from tests.root import PROJECT_ROOT

_WORDS = 3  # shorter ones are the same by chance


def _texts(path: Path) -> Iterator[str]:
    """Text constants of a file, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield " ".join(node.value.split())


def _said() -> str:
    return "\n".join(text for path in sorted((PROJECT_ROOT / "src").rglob("*.py")) for text in _texts(path))


def test_no_sentence_of_the_program_is_written_in_two_files_of_tests() -> None:
    written: dict[str, set[str]] = defaultdict(set)
    for path in sorted((PROJECT_ROOT / "tests").rglob("*.py")):
        for text in _texts(path):
            phrase = text.strip(" :;,.()")
            if len(phrase.split()) >= _WORDS:
                written[phrase].add(str(path.relative_to(PROJECT_ROOT)))
    twice, said = {phrase: files for phrase, files in written.items() if len(files) > 1}, _said()
    assert {phrase: files for phrase, files in twice.items() if phrase in said} == {}, "give it a name in phrases.py"


def test_every_named_phrase_is_one_that_the_program_says() -> None:
    said = _said()
    named = {name: value for name, value in vars(phrases).items() if name.isupper()}
    assert [name for name, value in named.items() if value not in said] == []
