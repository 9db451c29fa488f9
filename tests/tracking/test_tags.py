"""Texts in MLflow show well, and lose no advice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.tracking.errors import in_one_line
from lora_foundry.tracking.tags import LONGEST_TAG, shortened, source_name


def shown_as_source(name: str) -> str:
    """MLflow 3.17's UI: ``Utils.formatSource`` returns ``Utils.baseName`` of a LOCAL run's source."""
    return name.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("command", "source"),
    [
        ("python -m src.train lora.rank=4,8 -m", "python -m src.train lora.rank=4,8 -m"),
        ("python -m src.train data=folder data.path=/a/b lora.rank=4", "python -m src.train data=folder ..."),
        ("python -m src.train 'data.path=./my photos' -m", "python -m src.train ..."),
    ],
)
def test_the_source_of_a_run_is_shown_whole(command: str, source: str) -> None:
    assert shown_as_source(source_name(command)) == source_name(command) == source


@pytest.mark.slow
@given(st.text(max_size=60), st.integers(10, 40))
def test_a_long_text_keeps_both_ends(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) <= most
    assert short == text if len(text) <= most else (short[:2], short[-2:]) == (text[:2], text[-2:])


def test_the_command_at_the_end_of_a_long_error_is_kept() -> None:
    advice = "run: python -m src.track 'multirun/a b'"
    assert in_one_line(ValueError("x" * 900 + advice)).endswith(advice)
    assert shortened("x" * 9000 + advice).endswith(advice)
    assert len(shortened("x" * 9000 + advice)) == LONGEST_TAG
