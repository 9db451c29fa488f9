"""What is printed as a command can be pasted into a shell, from a folder of any name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BEFORE_A_VALUE = re.compile(r"(?:python -m \S+|mlflow ui|make \w+)(?: -\S+| \S+=\S*| \0)* (?:\S+=)?$")


def unquoted(source: str) -> Iterator[int]:
    """Lines of f-strings that put a value into a command as it stands."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        said = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                said += str(part.value)
            elif _BEFORE_A_VALUE.search(said):
                yield node.lineno
                break
            else:
                said += "\0"


def test_values_come_into_commands_quoted() -> None:
    """Either by ``shell`` of src/lora_foundry/config/quoting.py, or not at all."""
    files = sorted((ROOT / "src").rglob("*.py"))
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in unquoted(path.read_text())]
    assert found == []


def test_that_look_sees_what_it_looks_for() -> None:
    assert list(unquoted('f"go on: python -m src.resume {folder}"')) == [1]
    assert list(unquoted('f"{x}: python -m src.train a.b=1 resume={near(folder)}"')) == [1]
    assert list(unquoted('f"mlflow ui --backend-store-uri {uri}"')) == [1]
    assert list(unquoted('f"go on: {shell(words)}; python -m src.status shows {what}"')) == []
