"""What is remembered of a text is what is read of it anew, and nobody sees what another makes of it."""

from __future__ import annotations

import io

import pytest
import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from tests import remembered


def test_a_text_is_read_once_and_each_reader_has_it_to_itself() -> None:
    text = "a: {b: [1, 1e-3, '${c}']}\nc: remembered\n"
    first = yaml.load(text, Loader=get_yaml_loader())  # noqa: S506
    first["a"]["b"].append("mine")
    again = yaml.load(io.StringIO(text), Loader=get_yaml_loader())  # noqa: S506
    assert again == {"a": {"b": [1, 1e-3, "${c}"]}, "c": "remembered"}
    config = OmegaConf.create(text)
    assert config.a.b[2] == "remembered"
    config.c = "changed"
    assert config.a.b[2] == "changed"
    assert OmegaConf.create(text).a.b[2] == "remembered"


def test_what_is_no_yaml_is_told_each_time() -> None:
    for _ in range(2):
        stream = io.StringIO("a: [1\n")
        stream.name = "own.yaml"
        with pytest.raises(yaml.YAMLError, match=r"own\.yaml"):
            yaml.load(stream, Loader=get_yaml_loader())  # noqa: S506


def test_it_is_in_use() -> None:
    from omegaconf import base, grammar_parser

    assert base.parse is grammar_parser.parse
    assert hasattr(base.parse, "cache_info")
    assert yaml.load.__module__ == remembered.__name__
