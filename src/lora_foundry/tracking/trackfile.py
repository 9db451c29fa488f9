"""``tracking.json``: what a sweep is called in MLflow, and how far its spool has been read.

The file is enough to ingest a sweep without its launcher. It is a convenience for offsets (the store says
what it holds, so an old offset costs time and nothing else) and the authority for run ids.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lora_foundry.config.called import command_line
from lora_foundry.config.files import write_atomic
from lora_foundry.config.schema import TrackingConfig
from lora_foundry.config.stored import (
    Shape,
    StoredError,
    has,
    is_number,
    is_text,
    is_whole,
    list_of,
    mapping_to,
    or_null,
    read_json,
)
from lora_foundry.tracking.addresses import database_of, experiment_of, store_of
from lora_foundry.tracking.errors import DamagedError, TrackingError
from lora_foundry.tracking.inputs import inputs_of
from lora_foundry.tracking.parameters import chosen
from lora_foundry.tracking.processes import ProcessMark
from lora_foundry.tracking.records import JobRecord

FILE = "tracking.json"
LOCK = "tracking.lock"
PARENT = "parent"
DAMAGED = f"{FILE}.damaged"
_VERSION = 1
_TEXTS = mapping_to(is_text)
_MARK: Mapping[str, Shape] = {"host": is_text, "pid": is_whole, "started": is_number}
_JOB = {
    "name": is_text,
    "dir": is_text,
    "pack": is_text,
    "overrides": _TEXTS,
    "params": _TEXTS,
    "warnings": or_null(_TEXTS),
    "inputs": or_null(_TEXTS),
}
_FIELDS = {
    **dict.fromkeys(("sweep", "command", "uri", "root", "experiment"), is_text),
    **dict.fromkeys(("runs", "states", "ended"), _TEXTS),
    **dict.fromkeys(("run_name", "registry"), or_null(is_text)),
    "names": or_null(_TEXTS),
    "asked": list_of(or_null(is_text)),
    "launcher": lambda value: has(value, _MARK),
    "jobs": mapping_to(lambda value: has(value, _JOB)),
    "offsets": mapping_to(is_whole),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedJob:
    """What a job's run is made of.

    Attributes:
        name: The adapter's name.
        dir: The job's folder, relative to the sweep's where it lies inside.
        pack: Name of its pack.
        overrides: What the command line set.
        params: Parameters of its run: what was set.
        warnings: Tags that say what the user was warned of.
        inputs: What it learns from and what it starts from (:mod:`lora_foundry.tracking.inputs`).
    """

    name: str
    dir: str
    pack: str
    overrides: dict[str, str]
    params: dict[str, str]
    warnings: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class TrackFile:
    """The contents of ``tracking.json``.

    Attributes:
        sweep: The sweep's id.
        command: The command line that started it.
        asked: ``tracking.uri`` and ``tracking.root`` as the configuration gave them.
        uri: Tracking server or database, absolute.
        root: Folder of the artifacts, absolute.
        experiment: MLflow experiment's name.
        run_name: What the sweep's own run is called; null says what was swept.
        registry: The model of MLflow's registry that the winner is registered under; null registers nothing.
        launcher: The process that runs the sweep.
        jobs: By job number.
        runs: MLflow run ids by job number, the sweep's own under ``parent``.
        names: What the runs were called, by the same: one that has another name by now was called so by somebody.
        states: Final states that the runs were given, by job number.
        ended: Final states that the launcher named when it closed the sweep; empty until then.
        offsets: Bytes read of each spool file, by file name.
    """

    sweep: str
    command: str
    asked: list[str | None]
    uri: str
    root: str
    experiment: str
    launcher: ProcessMark
    run_name: str | None = None
    registry: str | None = None
    jobs: dict[str, TrackedJob] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)

    def save(self, sweep_dir: Path) -> None:
        """Write the file atomically; in one line, which a thousand jobs are written and read ten times as fast in."""
        values = {key: getattr(self, key) for key in self.__slots__}
        values["launcher"] = asdict(self.launcher)
        values["jobs"] = {
            index: {key: getattr(job, key) for key in job.__slots__}  # asdict would copy every parameter
            for index, job in self.jobs.items()
        }
        write_atomic(sweep_dir / FILE, json.dumps({"version": _VERSION, **values}) + "\n")

    def add(self, records: Sequence[JobRecord], sweep_dir: Path) -> None:
        """Take in jobs that are about to run, for the first time or again."""
        added = {
            str(record.index): TrackedJob(
                name=record.name,
                dir=os.path.relpath(record.dir, sweep_dir),
                pack=record.pack,
                overrides=dict(record.overrides),
                params=self._params(record),
                warnings=dict(record.warnings),
                inputs=inputs_of(record.config),
            )
            for record in records
        }
        self.jobs = {**self.jobs, **added}  # whoever goes through the old one in another thread goes on with it
        for record in records:
            self.states.pop(str(record.index), None)
            self.ended.pop(str(record.index), None)

    def _params(self, record: JobRecord) -> dict[str, str]:
        """With what was told of the job before: a run's parameters stay."""
        before = self.jobs.get(str(record.index))
        told = chosen(record.config, {**record.in_files, **record.overrides})
        return told if before is None else {**before.params, **told}

    def forget_store(self) -> None:
        """Start over in a store that holds nothing of this sweep."""
        self.runs.clear()
        self.names.clear()
        self.states.clear()
        self.offsets.clear()


def read_track_file(sweep_dir: Path) -> TrackFile:
    """The sweep's ``tracking.json``.

    Raises:
        TrackingError: When there is none, or another version of this program wrote it.
        DamagedError: When it cannot be read.
    """
    path = sweep_dir / FILE
    if not os.path.lexists(path):
        raise TrackingError(
            f"no {FILE} in {sweep_dir}: expected the folder of a sweep that was recorded in MLflow, "
            "such as multirun/<date>/<time>-<id> (with tracking=none nothing is recorded)"
        )
    try:
        values: Any = read_json(path)
    except StoredError as error:
        raise DamagedError(f"{error}; {command_line('resume')} writes it anew") from error
    if isinstance(values, dict) and is_whole(values.get("version")) and values["version"] != _VERSION:
        raise TrackingError(f"{path} was written by another version of this program; use that one to ingest it")
    if not has(values, _FIELDS):
        raise DamagedError(f"{path} does not hold what was written there; {command_line('resume')} writes it anew")
    known = {name: values[name] for name in _FIELDS if values.get(name) is not None}
    known["launcher"] = ProcessMark(**{name: values["launcher"][name] for name in _MARK})
    known["jobs"] = {index: _job(told) for index, told in values["jobs"].items()}
    return TrackFile(**known)


def _job(told: dict[str, Any]) -> TrackedJob:
    known = {field.name for field in fields(TrackedJob)}
    return TrackedJob(**{name: value for name, value in told.items() if name in known and value is not None})


def open_track_file(sweep_dir: Path, config: TrackingConfig, sweep_id: str, command: str) -> TrackFile:
    """The file of a sweep that starts or goes on, with this process as its launcher.

    A sweep that goes on keeps its runs, unless it is now recorded somewhere else.
    """
    uri, root = store_of(config)
    experiment = experiment_of(config)
    asked = [config.uri, config.root]
    launcher = ProcessMark.own()
    track = _earlier(sweep_dir)
    if track is None:
        return TrackFile(
            sweep=sweep_id,
            command=command,
            asked=asked,
            uri=uri,
            root=root,
            experiment=experiment,
            launcher=launcher,
            run_name=config.run_name,
            registry=config.registry.name,
        )
    track.launcher, track.run_name, track.registry = launcher, config.run_name, config.registry.name
    # A relative root means the store that the sweep began with, from whatever folder it is continued.
    same = track.asked == asked and track.experiment == experiment and _may_exist(track.uri)
    if not same and (track.uri, track.experiment) != (uri, experiment):
        track.uri, track.root, track.experiment = uri, root, experiment
        track.forget_store()
    track.asked = asked
    return track


def _earlier(sweep_dir: Path) -> TrackFile | None:
    """What was written before; null for nothing, and for what is damaged, which is put aside."""
    path = sweep_dir / FILE
    if not os.path.lexists(path):
        return None
    try:
        return read_track_file(sweep_dir)
    except DamagedError:
        path.replace(sweep_dir / DAMAGED)
        return None


def _may_exist(uri: str) -> bool:
    database = database_of(uri)
    return database is None or database.exists()
