"""Configurations that an earlier version stored: what a key that came later stands for where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEANT: Mapping[str, Mapping[str, Any]] = {
    "data": {"captions": "auto", "repeats": None, "follow_links": False, "prompts": []},
    "sample": {"with_prefix": False},
}
"""By group and key: the value with which a job trains as it did before the key was there."""


def completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored job's configuration with the keys that were not there yet; what it has stays as it is."""
    groups = {
        group: {**{key: value for key, value in meant.items() if key not in stored[group]}, **stored[group]}
        for group, meant in MEANT.items()
        if isinstance(stored.get(group), Mapping)
    }
    return {**stored, **groups}
