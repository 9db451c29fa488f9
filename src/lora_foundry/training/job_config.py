"""A job's configuration as it lies in its folder, with what a shortage of memory changed of it."""

from __future__ import annotations

import json
from functools import lru_cache
from io import StringIO
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_foundry.config import ConfigError, JobConfig, parse_stored
from lora_foundry.config.files import write_json
from lora_foundry.config.giving_way import Changes
from lora_foundry.config.longer import at_length, read_lengths
from lora_foundry.config.precision import AUTO
from lora_foundry.config.stored import StoredError, read_json
from lora_foundry.training.checkpoint import parts

CHANGES = "memory.json"


def read_config(folder: Path, *, as_asked: bool = False) -> JobConfig:
    """The configuration in a job's folder, at the length that it has now.

    Args:
        folder: The job's folder.
        as_asked: Leave out what a shortage of memory changed since (:func:`write_changes`).

    Raises:
        ConfigError: When it is missing or wrong.
    """
    path = folder / ".hydra" / "config.yaml"
    try:
        changes = {} if as_asked else read_changes(folder)
        return at_length(_config_of(path.read_text(encoding="utf-8"), json.dumps(changes)), read_lengths(folder))
    except (OSError, ValueError, OmegaConfBaseException) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError([f"{path}: {error}"]) from error


@lru_cache(maxsize=64)  # a job's is read for its check, its member and its checkpoints; YAML takes 15 ms each time
def _config_of(text: str, changes: str) -> JobConfig:
    config = OmegaConf.load(StringIO(text))
    for key, value in json.loads(changes).items():
        OmegaConf.update(config, key, value)
    job = parse_stored(config)  # type: ignore[arg-type]  # a mapping, or it says so
    if job.trainer.precision == AUTO:
        raise ConfigError(["trainer.precision: got auto, allowed in a job's folder is what it was when the job began"])
    return job


def read_changes(folder: Path) -> Changes:
    """What was changed of a job, key to value; empty as a rule.

    Raises:
        StoredError: When it cannot be read.
    """
    path = folder / CHANGES
    changes = read_json(path) if path.exists() else {}
    if not isinstance(changes, dict):
        raise StoredError(f"{path} holds no mapping")
    return changes


def write_changes(folder: Path, changes: Changes) -> None:
    """Let the job in ``folder`` begin anew with ``changes``; what it trained so far is not of the new job."""
    write_json(folder / CHANGES, {**read_changes(folder), **changes})
    for old in parts(folder / "checkpoints"):
        old.unlink()
