"""The runs of one sweep: a parent, and a child for each job."""

from __future__ import annotations

import getpass
import json
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_foundry.config.version import CHANGES, commit
from lora_foundry.tracking.images import LoggedImages, list_logged
from lora_foundry.tracking.naming import BEST, names_of
from lora_foundry.tracking.notes import AXIS, NOTE
from lora_foundry.tracking.tags import shortened, source_name
from lora_foundry.tracking.trackfile import PARENT, TrackedJob, TrackFile

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lora_foundry.tracking.store import Store

_PARAMS_PER_BATCH = 100
_CONFIG = "config"
_STATE = "state"
_BEST = "best"


@dataclass(kw_only=True, slots=True)
class Run:
    """A run as this writer knows it.

    Attributes:
        id: MLflow's run id.
        status: MLflow's status.
        marks: High-water mark: the latest step that the store holds, by metric key.
        images: Pictures that the store holds; null until asked for.
        pruned: Whether it has the tag that says so.
        best: Whether it is marked as the one to keep.
    """

    id: str
    status: str
    marks: dict[str, int] = field(default_factory=dict)
    images: LoggedImages | None = None
    pruned: bool = False
    best: bool = False


class SweepRuns:
    """Finds, creates and ends the runs of one sweep.

    What the store says comes first: run ids and marks are read from it at the start, so a writer killed
    between a call and its own record finds what it did.
    """

    def __init__(self, store: Store, track: TrackFile, sweep_dir: Path) -> None:
        """Look up what the store holds of the sweep; one search for all runs.

        Raises:
            mlflow.exceptions.MlflowException: When the store cannot be reached.
        """
        self.store, self.track, self.sweep_dir = store, track, sweep_dir
        self._common: dict[str, str] | None = None
        self._named: tuple[Mapping[str, TrackedJob], dict[str, str]] | None = None
        self._runs: dict[str, Run] = {}
        found = {_key_of(run): run for run in search(store, f"tags.sweep = '{track.sweep}'")}
        for key, run in found.items():
            self._runs[key] = _adopt(run)
        lost = [key for key in track.runs if key not in found]
        if lost:
            # The database was removed, or a run deleted in the UI: what is missing is read again from the start.
            track.offsets.clear()
            for key in lost:
                track.states.pop(key, None)
        track.runs = {key: run.id for key, run in self._runs.items()}
        for key, run in found.items():
            self._follow_move(key, run)
            if key in track.jobs:
                self._log_missing_params(run.info.run_id, track.jobs[key].params, set(run.data.params))
                if not store.client.list_artifacts(run.info.run_id, _CONFIG):
                    self._log_config(run.info.run_id, key)

    def parent(self) -> Run:
        """The sweep's own run."""
        run = self._runs.get(PARENT)
        if run is None:
            tags = {"role": "sweep", **self._launcher_tags()}
            run = self._create(PARENT, tags, self.track.launcher.started)
        return run

    def child(self, index: str, at: float) -> Run:
        """The run of job ``index``, created as of ``at`` (unix seconds) when the store has none."""
        run = self._runs.get(index)
        if run is not None:
            return run
        job = self.track.jobs[index]
        tags = {
            "role": "job",
            "job": index,
            "name": job.name,
            "pack": job.pack,
            "mlflow.parentRunId": self.parent().id,
            "overrides": shortened(json.dumps(job.overrides, ensure_ascii=False)),
            **self._places(index),
            **{key: shortened(text) for key, text in job.warnings.items()},
        }
        run = self._create(index, tags, at)
        self._log_missing_params(run.id, job.params, set())
        self._log_config(run.id, index)
        return run

    def known(self) -> ItemsView[str, Run]:
        """The runs that there are, by job number, the sweep's own under ``parent``."""
        return self._runs.items()

    def images_of(self, run: Run) -> LoggedImages:
        """The pictures that ``run`` holds."""
        if run.images is None:
            run.images = list_logged(self.store.client, run.id)
        return run.images

    def set_running(self, run: Run) -> None:
        """Back to RUNNING: a resumed run keeps its old status otherwise."""
        if run.status != "RUNNING":
            self.store.client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        if run.pruned:
            self.store.client.delete_tag(run.id, _STATE)
            run.pruned = False

    def claim_parent(self) -> None:
        """The sweep runs again, under this launcher."""
        run = self.parent()
        self.set_running(run)
        for key, value in self._launcher_tags().items():
            self.store.client.set_tag(run.id, key, value)
        self.rename()

    def asked_to_stop(self) -> list[str]:
        """Keys of the runs whose tag ``control`` somebody set to ``stop`` in the UI; each is told once."""
        known = {run_id: key for key, run_id in self.track.runs.items()}
        found = []
        for run in search(self.store, "tags.control = 'stop'"):
            key = known.get(run.info.run_id)
            if key is not None:
                self.store.client.set_tag(run.info.run_id, "control", "stopping")
                found.append(key)
        return found

    def end(self, key: str, run: Run, state: str, at: float) -> None:
        """Give ``run`` its final state as of ``at`` (unix seconds); once.

        MLflow has no status for a pruned one: it is FINISHED there with the tag ``state=PRUNED``, as Optuna's callback
        for MLflow leaves it.
        """
        if state == "PRUNED" and not run.pruned:
            self.store.client.set_tag(run.id, _STATE, state)
            run.pruned = True
        status = "FINISHED" if state == "PRUNED" else state
        if run.status != status:
            self.store.client.set_terminated(run.id, status=status, end_time=int(at * 1000))
            run.status = status
        self.track.states[key] = state

    def rename(self) -> None:
        """Call runs what they are to be called now: a search tells what it varies from its second job on.

        A run that somebody gave another name keeps that one.
        """
        for key, run in self._runs.items():
            name = self._name(key) + (BEST if run.best and key != PARENT else "")
            before = self.track.names.get(key, self.track.sweep if key == PARENT else self.track.jobs[key].name)
            if name == before:
                continue
            if self.store.client.get_run(run.id).info.run_name == before:
                self.store.client.update_run(run.id, name=name)
            self.track.names[key] = name

    def mark_best(self, index: str | None) -> None:
        """Mark the job to keep, in its name and by the tag ``best``, and no other any more."""
        for key, run in self._runs.items():
            best = key == index
            if key == PARENT or run.best == best:
                continue
            if best:
                self.store.client.set_tag(run.id, _BEST, "true")
            else:
                self.store.client.delete_tag(run.id, _BEST)
            run.best = best
        self.rename()

    def _name(self, key: str) -> str:
        jobs = self.track.jobs  # another mapping as soon as more jobs come
        if self._named is None or self._named[0] is not jobs:
            self._named = (jobs, names_of(self.track))
        return self._named[1][key]

    def _create(self, key: str, tags: dict[str, str], at: float) -> Run:
        name = self._name(key)
        created = self.store.client.create_run(
            self.store.experiment_id, start_time=int(at * 1000), tags={**self._common_tags(), **tags}, run_name=name
        )
        run = Run(id=created.info.run_id, status="RUNNING", images=LoggedImages())
        self._runs[key] = run
        self.track.runs[key] = run.id  # saved with the next offsets: until then the store knows it
        self.track.names[key] = name
        return run

    def _common_tags(self) -> dict[str, str]:
        """What all runs of the sweep say; asked once, since git takes longer to answer than MLflow to create a run."""
        if self._common is None:
            self._common = {
                "sweep": self.track.sweep,
                **self._places(PARENT),
                "command": shortened(self.track.command),
                "mlflow.source.name": source_name(self.track.command),
                "mlflow.source.type": "LOCAL",
                NOTE: AXIS,
                **git_tags(),
                **user_tags(),
            }
        return self._common

    def _places(self, key: str) -> dict[str, str]:
        """Tags that say where the files of a run lie."""
        job = self.track.jobs.get(key)
        own = {} if job is None else {"job_dir": str((self.sweep_dir / job.dir).resolve())}
        return {"sweep_dir": str(self.sweep_dir.resolve()), **own}

    def _follow_move(self, key: str, run: MlflowRun) -> None:
        """A sweep's folder may have been moved since the run was made."""
        for name, value in self._places(key).items():
            if run.data.tags.get(name) != value:
                self.store.client.set_tag(run.info.run_id, name, value)

    def _log_config(self, run_id: str, index: str) -> None:
        folder = self.sweep_dir / self.track.jobs[index].dir / ".hydra"
        if folder.is_dir():
            self.store.client.log_artifacts(run_id, str(folder), _CONFIG)

    def _launcher_tags(self) -> dict[str, str]:
        mark = self.track.launcher
        return {"launcher_host": mark.host, "launcher_pid": str(mark.pid), "launcher_started": repr(mark.started)}

    def _log_missing_params(self, run_id: str, params: dict[str, str], present: set[str]) -> None:
        from mlflow.entities import Param

        missing = [Param(key, value) for key, value in params.items() if key not in present]
        for start in range(0, len(missing), _PARAMS_PER_BATCH):
            self.store.client.log_batch(run_id, params=missing[start : start + _PARAMS_PER_BATCH])


def search(store: Store, query: str) -> Iterator[MlflowRun]:
    """All active runs of the experiment that match, the oldest last."""
    token: str | None = None
    while True:
        page = store.client.search_runs([store.experiment_id], query, max_results=500, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def git_tags() -> dict[str, str]:
    """The project's commit, with ``+changes`` when the tree differs from it; empty outside a checkout."""
    made = commit()
    return {} if made is None else {"git_commit": made, "mlflow.source.git.commit": made.removesuffix(CHANGES)}


def user_tags() -> dict[str, str]:
    """Who ran it; empty where the user id has no name, as in some containers."""
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):
        return {}


def _key_of(run: MlflowRun) -> str:
    tags: dict[str, Any] = run.data.tags
    return PARENT if tags.get("role") == "sweep" else str(tags.get("job"))


def _adopt(run: MlflowRun) -> Run:
    # The proto carries the step beside each latest value; RunData.metrics has the values alone.
    marks = {metric.key: metric.step for metric in run.data.to_proto().metrics}
    pruned = run.data.tags.get(_STATE) == "PRUNED"
    best = run.data.tags.get(_BEST) == "true"
    return Run(id=run.info.run_id, status=run.info.status, marks=marks, pruned=pruned, best=best)
