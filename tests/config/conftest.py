"""A plain mapping that parses, to be broken in one place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.root import PROJECT_ROOT

Raw = dict[str, Any]


@cache
def _composed() -> Raw:
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("train"), resolve=True)  # type: ignore[return-value]


@pytest.fixture
def raw() -> Raw:
    """What ``python -m src.train`` composes, as a fresh nested dict."""
    return copy.deepcopy(_composed())


@pytest.fixture
def with_values(raw: Raw) -> Callable[[dict[str, Any]], Raw]:
    """The same with some dotted keys set (or added)."""

    def change(values: dict[str, Any]) -> Raw:
        changed = copy.deepcopy(raw)
        for key, value in values.items():
            *groups, leaf = key.split(".")
            node = changed
            for group in groups:
                node = node[group]
            node[leaf] = value
        return changed

    return change
