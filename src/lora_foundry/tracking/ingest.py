"""From a sweep's spool files to its MLflow runs, each event exactly once.

A metric is logged when its step (samples seen) lies beyond the run's high-water mark for its key. So a
spool read twice, a writer killed after a batch was stored, and steps that a job repeats after it went back
to a checkpoint all leave one value a step.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lora_foundry.config.logged import BEST_RELATIVE, OF_THE_END, RELATIVE
from lora_foundry.tracking.images import log_once
from lora_foundry.tracking.inputs import datasets
from lora_foundry.tracking.runs import Run, SweepRuns
from lora_foundry.tracking.tags import shortened
from lora_foundry.tracking.telling import Telling, artifacts_of
from lora_foundry.tracking.trackfile import PARENT, TrackFile
from lora_foundry.wire.events import ArtifactEvent, Event, ImageEvent, MetricsEvent, StateEvent, TagsEvent, read_events
from lora_foundry.wire.states import ENDED

if TYPE_CHECKING:
    from mlflow.entities import Metric

    from lora_foundry.tracking.store import Store

METRICS_PER_BATCH = 1000
_NAME = re.compile(r"^[\w./ :-]{1,250}$")
# Summary of a finished job -> metric.
_RESULTS = {
    **{"best_step": "adapter/best_step", "best_val_loss": "val/loss_best", "best_val_loss_rel": BEST_RELATIVE},
    **{"best_val_drift": "val/drift_best", **{field: key for key, field in OF_THE_END.items()}},
}
_RESULT_FILES = ("file", "diffusers_file", "best_file")


def connect(track: TrackFile, sweep_dir: Path) -> Ingest:
    """Open the store that ``track`` names.

    Raises:
        TrackingError: When the experiment was deleted.
        mlflow.exceptions.MlflowException: When the store cannot be reached.
    """
    from lora_foundry.tracking.store import open_store

    return Ingest(open_store(track.uri, Path(track.root), track.experiment), track, sweep_dir)


class Ingest:
    """Reads what is new in ``spool/*.jsonl`` and logs it.

    After an error of the store throw the object away and make a new one: what was stored is then read back.
    """

    def __init__(self, store: Store, track: TrackFile, sweep_dir: Path) -> None:
        """Look up the sweep's runs.

        Raises:
            mlflow.exceptions.MlflowException: When the store cannot be reached.
        """
        self.runs = SweepRuns(store, track, sweep_dir)
        self._telling = Telling(self.runs)
        self.skipped: list[str] = []
        self._client, self._track, self._dir = store.client, track, sweep_dir
        self._offsets = dict(track.offsets)
        self._pending: deque[ImageEvent | ArtifactEvent | StateEvent] = deque()

    def flush(self, budget_s: float | None = None) -> int:
        """Log all new metrics, then pictures, files and states for ``budget_s`` seconds; returns the events read.

        What the budget leaves waits for the next flush, so that curves are never behind because of pictures.
        Offsets are recorded when nothing waits.
        """
        events = self._read()
        self._log_metrics(events)
        self._log_tags(events)
        self._pending.extend(event for event in events if isinstance(event, ImageEvent | ArtifactEvent | StateEvent))
        deadline = math.inf if budget_s is None else time.monotonic() + budget_s
        while self._pending and time.monotonic() < deadline:
            self._log_one(self._pending[0])
            self._pending.popleft()
        if events:
            self._telling.of_view()
        if not self._pending and self._offsets != self._track.offsets:
            self._track.offsets = dict(self._offsets)
            self._track.save(self._dir)
        return len(events)

    @property
    def waiting(self) -> int:
        """Pictures, files and states that a flush left for the next."""
        return len(self._pending)

    def finish(self, states: dict[str, str], at: float, *, crashed: bool = False) -> None:
        """Read to the end of the spool, then give every run its final state.

        The sweep's own is made of the jobs', and FAILED when its launcher ``crashed``.
        """
        while self.flush():
            pass
        for index, state in states.items():
            self.runs.end(index, self.runs.child(index, at), state, at)
        parent = self.runs.parent()
        for file in artifacts_of(self._dir):
            self._client.log_artifact(parent.id, str(file))
        ends = [self._track.states.get(index, "KILLED") for index in self._track.jobs]
        state = "FAILED" if crashed else sweep_state(ends)
        untold = self._telling.of_end(state)
        if untold is not None:
            self._skip(untold)
        self.runs.end(PARENT, parent, state, at)
        self._track.save(self._dir)

    def _read(self) -> list[Event]:
        """New events of all spools by time, each spool's in the order written even where the clock was set back."""
        timed: list[tuple[float, Event]] = []
        for path in sorted((self._dir / "spool").glob("*.jsonl")):
            offset = self._offsets.get(path.name, 0)
            if path.stat().st_size > offset:
                new, self._offsets[path.name] = read_events(path, offset)
                latest = 0.0
                for event in filter(self._is_tracked, new):
                    latest = max(latest, event.t)
                    timed.append((latest, event))
        return [event for _, event in sorted(timed, key=lambda one: one[0])]

    def _is_tracked(self, event: Event) -> bool:
        return str(event.job) in self._track.jobs

    def _log_metrics(self, events: Iterable[Event]) -> None:
        batches: dict[str, list[Metric]] = {}
        measured = [event for event in events if isinstance(event, MetricsEvent)]
        # By step, not by time: a mark that went past a step would leave it out for good.
        for event in sorted(measured, key=lambda event: event.samples):
            values = {**event.values, "train/step": event.step}
            run = self._run_of(event)
            batches.setdefault(str(event.job), []).extend(self._unseen(run, event, event.samples, values))
        for index, metrics in batches.items():
            # MLflow's page that compares runs begins with the metric that was logged first.
            self._send(self.runs.child(index, 0.0), sorted(metrics, key=lambda metric: metric.key != RELATIVE))

    def _unseen(self, run: Run, event: Event, step: int, values: Mapping[str, object]) -> list[Metric]:
        from mlflow.entities import Metric

        time_ms = int(event.t * 1000)
        unseen = []
        for key, value in values.items():
            if not self._is_name(key, event):
                continue
            if not isinstance(value, int | float):
                self._skip(f"{key} = {value!r} of job {event.job}: a metric is a number")
            elif step > run.marks.get(key, -1):
                run.marks[key] = step
                unseen.append(Metric(key, float(value), time_ms, step))
        return unseen

    def _send(self, run: Run, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), METRICS_PER_BATCH):
            self._client.log_batch(run.id, metrics=metrics[start : start + METRICS_PER_BATCH])

    def _log_tags(self, events: Iterable[Event]) -> None:
        from mlflow.entities import RunTag

        for event in events:
            if isinstance(event, TagsEvent):
                values = {key: shortened(str(value)) for key, value in event.values.items()}
                tags = [RunTag(key, value) for key, value in values.items() if self._is_name(key, event)]
                run = self._run_of(event)
                self._client.log_batch(run.id, tags=tags)
                found = datasets(self._track.jobs[str(event.job)].inputs, event.values)
                if found:
                    self._client.log_inputs(run.id, found)

    def _log_one(self, event: ImageEvent | ArtifactEvent | StateEvent) -> None:
        run = self._run_of(event)
        if isinstance(event, StateEvent):
            self._apply_state(run, event)
            return
        path = self._dir / event.path
        if not path.exists():
            self._skip(f"{event.path} of job {event.job}: the file is gone")
        elif isinstance(event, ImageEvent):
            self._log_image(run, event, path)
        elif path.is_dir():
            self._client.log_artifacts(run.id, str(path), event.folder)
        else:
            self._client.log_artifact(run.id, str(path), event.folder)

    def _log_image(self, run: Run, event: ImageEvent, path: Path) -> None:
        from PIL import UnidentifiedImageError

        try:
            log_once(self._client, run.id, self.runs.images_of(run), event, path)
        except UnidentifiedImageError:
            self._skip(f"{event.path} of job {event.job}: no picture")

    def _apply_state(self, run: Run, event: StateEvent) -> None:
        if event.state not in ENDED:
            self.runs.set_running(run)
            return
        told = event.summary
        if told is not None:
            results = {key: getattr(told, field) for field, key in _RESULTS.items()}
            values = {key: value for key, value in results.items() if value is not None}
            self._send(run, self._unseen(run, event, told.samples or 0, values))
            for field in _RESULT_FILES:
                if file := getattr(told, field):
                    self._client.set_tag(run.id, field, file)
        pictures = sorted((self._dir / self._track.jobs[str(event.job)].dir / "samples").glob("step-*"))
        if pictures:
            self._client.log_artifacts(run.id, str(pictures[-1]), "samples")
        if event.error:
            self._client.set_tag(run.id, "error", shortened(event.error))
        self.runs.end(str(event.job), run, event.state, event.t)

    def _run_of(self, event: Event) -> Run:
        return self.runs.child(str(event.job), event.t)

    def _is_name(self, key: str, event: Event) -> bool:
        if _NAME.match(key):
            return True
        self._skip(f"{key!r} of job {event.job}: MLflow's names have letters, digits and any of _ . - / : and space")
        return False

    def _skip(self, what: str) -> None:
        self.skipped.append(what)


def sweep_state(states: list[str]) -> str:
    """A sweep was KILLED when any job was, else FAILED when any job failed."""
    return next((state for state in ("KILLED", "FAILED") if state in states), "FINISHED")
