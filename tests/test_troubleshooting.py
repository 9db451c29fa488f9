"""docs/troubleshooting.md names messages that there are, and commands that can be typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)


def sources() -> str:
    """Code as it is printed: literals that are broken over lines are joined."""
    text = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_there_are_eleven_messages() -> None:
    assert len(MESSAGES) == 11


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_is_one_that_the_program_prints(message: str) -> None:
    assert message in sources()
