"""What the launcher tells tracking about a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lora_foundry.config.schema import JobConfig
from lora_foundry.wire.forks import Fork


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """One job of a sweep.

    Attributes:
        index: The job's number in its sweep; events of the spool carry it as ``job``.
        name: The adapter's name, unique within the sweep.
        dir: The job's folder.
        config: The composed and checked configuration.
        overrides: What the command line set, key to value, without the sweep's commas.
        in_files: What the file of an experiment set that they name; nothing where a job goes on, whose run has it.
        pack: Name of the pack that the job trains in.
        warnings: Tags of its run that say what the user was warned of (:func:`lora_foundry.config.warned.tags_of`).
        fork: What it begins from; null begins anew.
    """

    index: int
    name: str
    dir: Path
    config: JobConfig
    overrides: dict[str, str]
    pack: str
    in_files: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    fork: Fork | None = None
