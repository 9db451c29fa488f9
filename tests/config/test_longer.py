"""A job's length may change after it has begun, and nothing else of it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config.digest import config_digest
from lora_foundry.config.longer import FILE, Length, at_length, digests_of, read_lengths, words_of, write_length
from lora_foundry.config.stored import StoredError
from tests.launch.jobs import job


def test_the_last_length_holds_and_checkpoints_of_every_one_are_known(tmp_path: Path) -> None:
    before = job(trainer__max_steps=400)
    assert at_length(before, read_lengths(tmp_path)) == before
    write_length(tmp_path, Length(max_steps=800, epochs=None, after=400), before)
    longer = at_length(before, read_lengths(tmp_path))
    write_length(tmp_path, Length(max_steps=800, epochs=2.5, after=800), longer)
    lengths = read_lengths(tmp_path)
    now = at_length(before, lengths)
    assert now == replace(before, trainer=replace(before.trainer, max_steps=800, epochs=2.5))
    assert words_of(lengths) == "400 steps, then 800 steps from step 400 on, then 2.5 epochs from step 800 on"
    assert digests_of(now, lengths) == {config_digest(one) for one in (before, longer, now)}
    assert config_digest(job(trainer__max_steps=500)) not in digests_of(now, lengths)
    assert config_digest(job(trainer__max_steps=800, lora__rank=2)) not in digests_of(now, lengths)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "{", '{"format": 1, "lengths": []}', '{"format": 1, "lengths": [{"after": "x"}]}',
             '{"format": 2, "lengths": [{"after": 1}]}'],
)  # fmt: skip
def test_what_is_no_list_of_lengths_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StoredError, match="length"):
        read_lengths(tmp_path)
