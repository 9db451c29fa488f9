"""Configurations as YAML text, quickly: of a thousand jobs of one sweep most parts are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper  # OmegaConf.to_yaml makes a container of whatever it is given

_SPLIT = 3  # levels of mappings whose entries are kept apart (hydra.job.num is one of them)
_PLAIN = re.compile(r"[a-z][a-z_]{3,60}")  # no quotes needed, and no word that YAML reads as a value
_YAML_WORDS = {"true", "false", "null"}


class YamlTexts:
    """Writes what ``OmegaConf.to_yaml`` writes, and keeps the parts: PyYAML takes 5 ms for the ``hydra`` node alone."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str, str], str] = {}

    def of(self, config: DictConfig | Mapping[str, Any] | list[str]) -> str:
        """The text of a configuration; interpolations stay as they are."""
        plain: Any = config
        if isinstance(config, DictConfig):
            plain = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
        return "".join(self._entries(plain, 0)) if isinstance(plain, dict) and plain else _dump(plain)

    def _entries(self, values: Mapping[Any, Any], depth: int) -> Iterator[str]:
        for key, value in values.items():
            apart = isinstance(value, dict) and value and depth + 1 < _SPLIT
            if apart and isinstance(key, str) and _PLAIN.fullmatch(key) and key not in _YAML_WORDS:
                yield f"{'  ' * depth}{key}:\n"
                yield from self._entries(value, depth + 1)
            else:
                yield self._entry(key, value, depth)

    def _entry(self, key: object, value: object, depth: int) -> str:
        known = depth, repr(key), repr(value)
        if known not in self._kept:
            nested: dict[Any, Any] = {key: value}
            for _ in range(depth):  # where lines are broken depends on how far they are indented
                nested = {"a": nested}
            lines = _dump(nested).splitlines(keepends=True)
            self._kept[known] = "".join(lines[depth:])
        return self._kept[known]


def _dump(plain: object) -> str:
    dumper = get_omega_conf_dumper()
    return str(yaml.dump(plain, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper))
