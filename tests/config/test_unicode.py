"""Texts that UTF-8 cannot hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from lora_foundry.config import ConfigError, parse
from lora_foundry.config.hints import known_keys
from lora_foundry.config.unicode import is_unicode, printable

Change = Callable[[dict[str, Any]], dict[str, Any]]
HALF = "a card \ud83d"
BYTE = os.fsdecode(b"m\xfcller")  # as the command line brings what is not UTF-8


def test_halves_of_pairs_and_raw_bytes_are_told_from_texts() -> None:
    assert all(is_unicode(text) for text in ("", "plain", "żółw", "\U0001f600", "\ud7ff\ue000"))
    assert not any(is_unicode(text) for text in (HALF, BYTE, "\udfff"))
    assert printable("żółw") == "żółw"
    assert printable(HALF).endswith("\\ud83d")
    printable(BYTE).encode()


@pytest.mark.parametrize("text", [HALF, BYTE])
@pytest.mark.parametrize("key", ["data.caption_prefix", "sample.prompts", "data.path", "data.prompts", "name"])
def test_a_text_of_the_configuration_that_no_file_could_hold_is_refused_in_one_line(
    with_values: Change, key: str, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_values({key: [text] if key.endswith("prompts") else text}))
    assert [line.split(":")[0] for line in caught.value.problems] == [key]
    assert "of valid Unicode" in caught.value.problems[0]
    str(caught.value).encode()


@pytest.mark.slow
def test_no_key_of_the_schema_takes_one(with_values: Change) -> None:
    for key in known_keys():
        for value in (HALF, [HALF]):
            group = key.rpartition(".")[0]
            if not group and key not in {"name", "seed", "resume"}:
                continue
            with pytest.raises(ConfigError):
                parse(with_values({key: value}))
