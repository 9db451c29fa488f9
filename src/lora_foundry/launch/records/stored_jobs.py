"""A sweep's jobs as their folders have them: configuration, launcher's options, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_foundry.config.called import command_line
from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.config.longer import KEYS, Length, at_length, read_lengths
from lora_foundry.config.parse import ConfigError, parse_stored
from lora_foundry.config.schema import JobConfig
from lora_foundry.config.stored import StoredError, read_text
from lora_foundry.launch.records.record import HYDRA_FOLDER, StoredJob
from lora_foundry.tracking.records import JobRecord

_RECORDED = "tracking"
CONFIG = f"{HYDRA_FOLDER}/config.yaml"


class DamagedJobError(SweepError):
    """A job whose stored configuration cannot be read; the others of its sweep can go on."""


def read_job(sweep_dir: Path, entry: StoredJob) -> JobRecord:
    """A job with its stored configuration.

    Args:
        sweep_dir: The sweep's folder.
        entry: The job in the sweep's record.

    Raises:
        DamagedJobError: When the configuration cannot be read.
    """
    folder = sweep_dir / entry.dir
    return JobRecord(
        index=entry.job,
        name=entry.name,
        dir=folder,
        config=read_stored_config(folder),
        overrides=dict(entry.overrides),
        pack=entry.pack,
        warnings=dict(entry.warnings or {}),
        fork=entry.fork,
    )


def read_stored_config(folder: Path) -> JobConfig:
    """The configuration in a job's folder, at the length that it has now.

    Raises:
        DamagedJobError: When it cannot be read.
    """
    if not folder.is_dir():
        raise DamagedJobError([f"its folder {folder} is gone"])
    path = folder / CONFIG
    try:
        return at_length(parse_stored(_read_yaml(path)), read_lengths(folder))
    except StoredError as error:
        raise DamagedJobError([str(error)]) from error
    except ConfigError as error:
        raise DamagedJobError([f"{path}: {'; '.join(error.problems)}"]) from error
    except OmegaConfBaseException as error:
        raise DamagedJobError([f"{path}: {_first_line(error)}"]) from error


def train_again(entry: StoredJob, length: Length | None = None) -> str:
    """The command that trains a job from its beginning, in a sweep of its own; with ``length`` for so long."""
    words = own_words(entry)
    if length is not None:
        words = {key: value for key, value in words.items() if key not in KEYS}
        words |= {"trainer.max_steps": str(length.max_steps)} if length.epochs is None else {}
        words |= {} if length.epochs is None else {"trainer.epochs": str(length.epochs)}
    return command_line("train", *(f"{key}={value}" for key, value in words.items()))


def own_words(entry: StoredJob) -> dict[str, str]:
    """What was set for a job, but for where it was recorded, which is the old sweep's."""
    return {key: value for key, value in entry.overrides.items() if key.split(".")[0] != _RECORDED}


def stored_launcher(jobs: Sequence[JobRecord]) -> Settings | None:
    """The launcher's options that a sweep began with; None where none of its jobs has them any more."""
    options = _stored_node([job.dir for job in jobs], "hydra.launcher")
    return None if options is None else Settings.of(options)


def stored_sweeper(folders: Sequence[Path]) -> dict[str, object]:
    """The sweeper's options that a sweep began with, by its jobs' folders; none where no folder has them any more."""
    return _stored_node(folders, "hydra.sweeper") or {}


def _stored_node(folders: Sequence[Path], key: str) -> dict[str, object] | None:
    for folder in folders:
        try:
            node = OmegaConf.select(_read_yaml(folder / HYDRA_FOLDER / "hydra.yaml"), key)
            options = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else None
        except (StoredError, OmegaConfBaseException):
            continue
        if isinstance(options, dict):
            return {str(name): value for name, value in options.items() if name != "_target_"}
    return None


def has_checkpoint(job_dir: Path) -> bool:
    """Whether there is something to continue from."""
    return any(job_dir.glob("checkpoints/*.safetensors"))


def steps_taken(job_dir: Path) -> int:
    """Optimizer steps of the newest checkpoint, as its name tells; 0 where there is none."""
    names = (path.stem.removeprefix("step-") for path in job_dir.glob("checkpoints/step-*.safetensors"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _read_yaml(path: Path) -> DictConfig:
    try:
        loaded = OmegaConf.create(read_text(path))
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise StoredError(f"{path} is no YAML that can be read ({_place(error)})") from error
    if not isinstance(loaded, DictConfig):
        raise StoredError(f"{path} holds no mapping")
    return loaded


def _place(error: Exception) -> str:
    """Where YAML broke, and why, in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark is not None and problem else _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
