"""Any order of words becomes the one that Hydra's parser takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.launch.points.argv import arrange


@given(st.permutations(["-m", "lora.rank=4,8", "seed=1", "--config-dir=own"]))
def test_order_of_flags_does_not_matter(words: list[str]) -> None:
    line = arrange(words)
    assert (line.sweep, line.info, line.problems) == (True, False, ())
    assert line.flags == {"--multirun": (), "--config-dir": ("own",)}
    assert list(line.overrides) == [word for word in words if (word[0] != "-" and "." in word) or word == "seed=1"]


@pytest.mark.parametrize(
    ("words", "sweep"), [(["-r"], False), (["hydra.mode=RUN"], False), (["hydra.mode=MULTIRUN"], True), (["-m"], True)]
)
def test_what_hydras_mode_says_is_what_m_says(words: list[str], sweep: bool) -> None:
    line = arrange(["seed=1", *words])
    assert (line.sweep, line.overrides, line.problems) == (sweep, ("seed=1",), ())


@pytest.mark.parametrize(
    ("words", "flag", "value"),
    [
        (["seed=1", "--cfg", "job"], "--cfg", "job"),
        (["-c", "hydra", "-p", "hydra.job", "seed=1"], "--package", "hydra.job"),
        (["seed=1", "--info", "searchpath"], "--info", "searchpath"),
        (["--info", "seed=1"], "--info", None),
        (["seed=1", "--cfg=job", "-m"], "--cfg", "job"),
        (["--multirun", "--cfg", "job", "seed=1"], "--cfg", "job"),
        (["--help", "seed=1"], "--help", None),
        (["--hydra-help", "seed=1"], "--hydra-help", None),
        (["--version", "seed=1"], "--version", None),
    ],
)
def test_what_only_shows_something_keeps_its_value(words: list[str], flag: str, value: str | None) -> None:
    line = arrange(words)
    assert line.info
    assert flag in line.flags
    assert line.value(flag) == value
    assert line.overrides == ("seed=1",) * ("seed=1" in words)
    assert not line.problems


def test_config_folders_are_found_in_both_spellings() -> None:
    line = arrange(["-cd", "a", "--config-dir=b", "-cp", "c"])
    assert line.config_dirs() == [Path("a"), Path("b")]
    assert line.config_path() == str(Path("c").absolute())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--multrun"], "--multrun: no such flag; did you mean --multirun?"),
        (["--cgf", "job"], "--cgf: no such flag; did you mean --cfg?"),
        (["--multi"], "--multi: no such flag; did you mean --multirun?"),
        (["-cfg", "job"], "-cfg: no such flag; did you mean --cfg?"),
        (["--verison"], "--verison: no such flag; did you mean --version?"),
        (["--config_dir=x"], "--config_dir: no such flag; did you mean --config-dir?"),
        (["-x"], "-x: no such flag; python -m src.train --help shows what there is"),
        (["--"], "--: no such flag; python -m src.train --help shows what there is"),
        (["--cfg"], "--cfg: got no value, allowed is one of job, hydra, all"),
        (["--cfg", "jobs"], "--cfg: got 'jobs', allowed is one of job, hydra, all"),
        (["--cfg="], "--cfg: got '', allowed is one of job, hydra, all"),
        (["--info=x"], "--info: got 'x', allowed is one of all, config, defaults, defaults-tree, plugins, searchpath"),
        (["--config-dir", "-m"], "--config-dir: got no value, allowed is a folder"),
        (["-m=1"], "-m=1: -m takes no value"),
        (["-m", "-r"], "--run, --multirun: one trains one adapter, the other one for each value; give one of them"),
        (["-r", "sweep=rank"], "--run: sweep=rank trains several adapters; leave one of them out"),
        (["--resolve"], "--resolve: goes with --cfg, whose values it fills in"),
        (["-p", "lora"], "--package: goes with --cfg, of which it shows a part"),
        (["--help", "--cfg", "job"], "--help, --cfg: each shows something else; give one of them"),
        (["-sc"], "--shell-completion: got nothing, allowed is one of install=bash, uninstall=bash, query=bash"),
        (["-sc", "install=fish"], "--shell-completion: got install=fish, allowed is one of install=bash,"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun: reads pickles, which may run anything;"),
    ],
)
def test_each_wrong_flag_is_one_line_with_what_is_right(words: list[str], said: str) -> None:
    (problem,) = arrange(words).problems
    assert problem.startswith(said)
