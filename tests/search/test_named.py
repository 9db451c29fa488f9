"""Searches that are written down: README's commands, and named sweeps."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from lora_foundry.config.launcher import Settings
from lora_foundry.config.search import PBT, SearchOptions
from lora_foundry.launch.points.texts import as_texts
from lora_foundry.search.mutating import is_mutable
from lora_foundry.search.space import space_of
from tests.root import PROJECT_ROOT

_README = (PROJECT_ROOT / "README.md").read_text().replace("\\\n    ", "")
SEARCHES = re.findall(r"^python -m src.train (.*hydra/sweeper=optuna.*?)(?: +#.*)?$", _README, re.M)
NAMED = [
    path
    for path in sorted((PROJECT_ROOT / "sweeps/sweep").glob("*.yaml"))
    if "sampler" in (yaml.safe_load(path.read_text())["hydra"]["sweeper"])
]


@pytest.mark.parametrize("line", SEARCHES)
def test_the_readmes_searches_have_a_space(line: str) -> None:
    words = [word for word in shlex.split(line) if word != "-m"]
    parsed = OverridesParser.create().parse_overrides(as_texts(words))
    assert len(space_of(parsed, {}).dimensions) == 2
    assert {one.key_or_group for one in parsed if one.key_or_group.startswith("hydra")} <= {
        *("hydra/sweeper", "hydra.sweeper.n_trials", "hydra.sweeper.hours")
    }


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.stem)
def test_a_named_search_is_sound(path: object) -> None:
    told = yaml.safe_load(path.read_text())["hydra"]  # type: ignore[attr-defined]
    options = SearchOptions.of(told["sweeper"])
    options.check()
    Settings.of(told.get("launcher", {})).check()
    assert options.sampler != PBT or all(map(is_mutable, options.params))
    words = as_texts([f"{key}={value}" for key, value in options.params.items()])
    assert len(space_of(OverridesParser.create().parse_overrides(words), {}).dimensions) == len(options.params)


def test_there_are_such() -> None:
    assert SEARCHES
    assert NAMED
