"""What of a configuration is a parameter of a run: what somebody set. All of it is the run's artifact ``config``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lora_foundry.config.schema import JobConfig
from lora_foundry.config.swept import swept_keys

LONGEST_VALUE = 6000
"""Characters of a parameter's value that MLflow's stores accept (3.17)."""
_NO_PARAMETERS = ("name", "resume", "sweep", "tracking")  # how it is called, went on and is recorded is not what it is
_NAME = re.compile(r"[\w./ :-]{1,250}")
_FEW = 8
_LISTED = ", "


def chosen(config: JobConfig, overrides: Mapping[str, str]) -> dict[str, str]:
    """What was set for a job, swept or not, under its dotted name, as text the way YAML writes it.

    Args:
        config: The whole configuration, which has values as they are used (an alpha of ``2x`` as a number).
        overrides: What was set, key to value; of a group (``data=emoji-flat``) its choice.
    """
    values = asdict(config)
    told = {}
    for key, given in overrides.items():
        if key.split(".")[0] not in _NO_PARAMETERS and _NAME.fullmatch(key):
            told[key] = _used(values, key, given)[:LONGEST_VALUE]
    return told


def shared(jobs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Parameters of a whole sweep: what all of its jobs have, and of what was swept the values."""
    swept = swept_keys(jobs)
    told = {key: _values([job[key] for job in jobs if key in job]) for key in swept}
    same = {key: value for key, value in (jobs[0] if jobs else {}).items() if key not in swept}
    return {"swept": _LISTED.join(swept), **told, **same} if swept else same


def _used(values: Mapping[str, Any], key: str, given: str) -> str:
    node: Any = values
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if node is None or isinstance(node, dict):
        return given
    return node if isinstance(node, str) else json.dumps(node, ensure_ascii=False)


def _values(given: Sequence[str]) -> str:
    """Values in the order in which they came; of many numbers the ends."""
    every = list(dict.fromkeys(given))
    try:
        numbers = sorted(every, key=float)
    except ValueError:
        numbers = []
    if len(every) > _FEW and numbers:
        return f"{numbers[0]} to {numbers[-1]} ({len(every)} values)"
    return _LISTED.join(every)[:LONGEST_VALUE]
