"""What the file of an experiment, or of a named sweep, says of its own: as good as said on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

_FILES = ("experiment", "sweep")
_DEFAULTS, _OVERRIDE = "defaults", "override "


def said_in_files(hydra_cfg: DictConfig, overrides: Mapping[str, str]) -> dict[str, str]:
    """Key to value of what the files that ``overrides`` names set, themselves and not by what they build on.

    Args:
        hydra_cfg: What Hydra composed, with the folders that files are looked for in.
        overrides: What the command line set.
    """
    sources = OmegaConf.select(hydra_cfg, "hydra.runtime.config_sources", default=[])
    folders = [Path(str(one.path)) for one in sources if one.schema == "file"]
    told: dict[str, str] = {}
    for group in _FILES:
        paths = (folder / group / f"{overrides[group]}.yaml" for folder in folders if overrides.get(group))
        told |= next((_said_in(path) for path in paths if path.is_file()), {})
    return told


@cache
def _said_in(path: Path) -> dict[str, str]:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        return {}
    own = {key: value for key, value in values.items() if key not in (_DEFAULTS, "hydra")}
    return {**dict(_choices(values.get(_DEFAULTS))), **dict(_leaves("", own))}


def _choices(entries: object) -> Iterator[tuple[str, str]]:
    """Groups that a file exchanges."""
    for entry in entries if isinstance(entries, list) else []:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if isinstance(key, str) and key.startswith(_OVERRIDE):
                yield key.removeprefix(_OVERRIDE).lstrip("/ "), str(value)


def _leaves(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", str(value)
