"""Any order of words becomes the one that Hydra's parser takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.launch.argv import arrange


@given(st.permutations(["-m", "lora.rank=4,8", "seed=1", "--config-dir=own"]))
def test_order_of_flags_does_not_matter(words: list[str]) -> None:
    line = arrange(words)
    assert (line.sweep, line.info) == (True, False)
    assert line.words()[:2] == ["--config-dir=own", "--multirun"]
    assert list(line.overrides) == [word for word in words if (word[0] != "-" and "." in word) or word == "seed=1"]


def test_a_run_without_m_is_a_multirun_for_hydra_but_no_sweep() -> None:
    line = arrange(["seed=1", "-r"])
    assert line.words() == ["--multirun", "seed=1"]
    assert not line.sweep


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["seed=1", "--cfg", "job"], ["--cfg", "job", "seed=1"]),
        (["-c", "hydra", "-p", "hydra.job", "seed=1"], ["-c", "hydra", "-p", "hydra.job", "seed=1"]),
        (["seed=1", "--info", "searchpath"], ["--info", "searchpath", "seed=1"]),
        (["--info", "seed=1"], ["--info", "seed=1"]),
        (["seed=1", "--cfg=job", "-m"], ["--cfg=job", "seed=1"]),
        (["--help"], ["--help"]),
        (["--hydra-help"], ["--hydra-help"]),
        (["--version"], ["--version"]),
    ],
)
def test_what_only_shows_something_keeps_its_values_and_is_no_multirun(words: list[str], expected: list[str]) -> None:
    line = arrange(words)
    assert line.info
    assert line.words() == expected


def test_config_folders_are_found_in_both_spellings() -> None:
    assert arrange(["-cd", "a", "--config-dir=b", "-cp", "c"]).config_dirs() == [Path("a"), Path("b"), Path("c")]
