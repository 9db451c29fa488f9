"""Whether somebody said a value, or it is only the default."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

from lora_foundry.config.paths import SHIPPED


def is_given(key: str, value: object, words: Iterable[str]) -> bool:
    """Whether ``key`` was set: on the command line, or to another value than the default.

    Args:
        key: ``lora.rank``.
        value: What it is.
        words: The job's override list.
    """
    said = {word.lstrip("+~").partition("=")[0] for word in words}
    group, _, leaf = key.partition(".")
    return key in said or value != _defaults(group).get(leaf)


def words_of(job_dir: Path) -> list[str]:
    """The override list in a job's folder; empty where there is none."""
    try:
        words = yaml.safe_load((job_dir / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return []
    return [str(word) for word in words] if isinstance(words, list) else []


@cache
def _defaults(group: str) -> dict[str, object]:
    values = yaml.safe_load((SHIPPED / "conf" / group / "default.yaml").read_text(encoding="utf-8"))
    return dict(values)
