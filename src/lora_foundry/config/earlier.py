"""Configurations that an earlier version stored: what a key that came later stands for where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FOLDS: Mapping[str, Any] = {"folds": None, "fold": None, "refit": False}
MEANT: Mapping[str, Mapping[str, Any]] = {
    "data": {"captions": "auto", "repeats": None, "follow_links": False, "without": [], "prompts": [], **FOLDS},
    "lora": {"kind": "lora"},
    "trainer": {"deterministic": False, "patience": None, "keep_best": None, "average": None},
    "validation": {"metrics": ["loss"], "drift_prompts": [], "likeness": None, "check_images": 0},
    "sample": {"with_prefix": False, "sampler": None},
    "export": {"copy_to": None},
    "tracking": {"run_name": None, "registry": {"name": None}},
}
"""By group and key: the value with which a job trains as it did before the key was there."""
LATER_GROUPS = ("export",)
"""Groups that came later as a whole."""


def completed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored job's configuration with the keys that were not there yet; what it has stays as it is."""
    groups = {
        group: {**{key: value for key, value in meant.items() if key not in kept}, **kept}
        for group, meant in MEANT.items()
        if isinstance(kept := stored.get(group, {} if group in LATER_GROUPS else None), Mapping)
    }
    return {**stored, **groups}
