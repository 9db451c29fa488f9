"""Random streams: the same numbers in every process, on every machine, for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.config.streams import STREAMS, drawn_otherwise, stream_key
from tests.root import PROJECT_ROOT

# Written down on 2026-11-22 from this function: a change of any would change every adapter ever resumed.
GOLDEN = [
    ((0, "noise", 0), 2380761526797966722),
    ((0, "noise", 1), 6506115867383488411),
    ((1, "noise", 0), 6360202698278328347),
    ((0, "timestep", 0), 2027751560258157357),
    ((7, "dropout", 3, "down_blocks.0.attn.to_q", 1), 5220191778889837546),
    ((2**63 - 1, "init", "mid_block"), 2651966128492635862),
]


@pytest.mark.parametrize(("key", "number"), GOLDEN)
def test_golden_numbers_do_not_move(key: tuple[int, str, int], number: int) -> None:
    assert stream_key(*key) == number


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_keys_do_not_depend_on_pythonhashseed(hash_seed: str) -> None:
    program = "from lora_foundry.config.streams import stream_key; print(stream_key(5, 'flip', 'a', 3))"
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert int(printed) == stream_key(5, "flip", "a", 3)


def test_nearby_draws_get_unlike_keys() -> None:
    keys = {
        stream_key(seed, purpose, *index)
        for seed in range(20)
        for purpose in ("noise", "timestep", "flip", "dropout")
        for index in ((), (0,), (1,), (0, 1), (1, 0), (11,), (1, 1), ("layer",))
    }
    assert len(keys) == 20 * 4 * 8


@pytest.mark.slow
@given(st.integers(0, 2**63 - 1), st.text(max_size=10), st.lists(st.integers(0, 10**9) | st.text(max_size=5)))
def test_keys_fit_a_torch_generator(seed: int, purpose: str, index: list[int | str]) -> None:
    assert 0 <= stream_key(seed, purpose, *index) < 2**63


def test_other_streams_matter_to_dropout_alone() -> None:
    assert drawn_otherwise(STREAMS, 0.2) is None
    assert drawn_otherwise(1, 0.0) is None
    assert f"drawn by version 1 of the random streams, and would be by version {STREAMS}" in str(
        drawn_otherwise(1, 0.2)
    )
