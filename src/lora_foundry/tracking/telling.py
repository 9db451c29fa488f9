"""What the sweep's own run tells of all its jobs: a view of them, which is best, and how sure that is."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from lora_foundry.config.logged import BEST_RELATIVE
from lora_foundry.config.stored import StoredError
from lora_foundry.config.swept import swept_keys
from lora_foundry.tracking import notes
from lora_foundry.tracking.naming import names_of
from lora_foundry.tracking.parameters import shared
from lora_foundry.tracking.registry import register
from lora_foundry.tracking.runs import SweepRuns
from lora_foundry.tracking.tags import shortened
from lora_foundry.tracking.trackfile import PARENT
from lora_foundry.tracking.views import MOST_RUNS, View, address_of_file, address_of_run, address_of_view, tag_of
from lora_foundry.wire.outcomes import JobOutcome, read_outcomes
from lora_foundry.wire.verdict import Verdict, read_verdict

if TYPE_CHECKING:
    from mlflow.entities import Metric

PICTURE, REPORT = "comparison.png", "report.html"
_NOTED = "note"  # the tag that tells whether somebody wrote over what was written here
_MOST_ROWS_OF_PICTURES = 16
_OF_THE_BASE = "scale 0"  # whose pictures are the same in every run
_ENDED_WELL = ("FINISHED", "FAILED")


class Telling:
    """Tells a sweep's own run, and the winner's, what concerns all jobs together.

    Args:
        runs: The sweep's.
    """

    def __init__(self, runs: SweepRuns) -> None:
        self._runs = runs
        self._track = runs.track
        self._dir = runs.sweep_dir
        self._client = runs.store.client
        self._view: View | None = None

    def of_view(self) -> None:
        """Keep the experiment's view of the jobs up to date with what is swept and drawn."""
        if len(self._track.jobs) < 2:
            return
        view = self._wanted_view()
        if view != self._view:
            at_ms = int(self._track.launcher.started * 1000)
            tag = tag_of(self._track.sweep)
            self._client.set_experiment_tag(self._runs.store.experiment_id, tag, view.stored(at_ms))
            if self._view is None:
                self._note(self._runs.parent().id, notes.begun(self._linked([])), over=("", notes.AXIS))
            self._view = view

    def of_end(self, state: str) -> str | None:
        """Which job is best and how sure that is: in words, as metrics to sort by, in the registry.

        Args:
            state: How the sweep ended.

        Returns:
            What could not be told, in a line; null when all was.
        """
        verdict, outcomes = read_verdict(self._dir), self._outcomes()
        best = next((one for one in outcomes if verdict is not None and one.job == verdict.job), None)
        self._runs.mark_best(None if verdict is None else str(verdict.job))
        self.of_view()
        self._tell_parent(verdict, best, state)
        self._note(self._runs.parent().id, notes.ended(verdict, outcomes, self._linked(outcomes)))
        if verdict is None or str(verdict.job) not in self._track.jobs:
            return None
        run = self._runs.child(str(verdict.job), 0.0).id
        self._note(run, notes.winner(verdict.sentence))
        return self._registered(verdict, best, run) if state in _ENDED_WELL else None

    def _tell_parent(self, verdict: Verdict | None, best: JobOutcome | None, state: str) -> None:
        from mlflow.entities import Param, RunTag

        parent = self._runs.parent().id
        tags: dict[str, str] = {}
        if verdict is not None:
            tags = {"best": verdict.name, "verdict": verdict.sentence}
            if str(verdict.job) in self._track.jobs:
                tags["best_run"] = self._runs.child(str(verdict.job), 0.0).id
        there = self._client.get_run(parent).data  # of an earlier end
        params = {}
        if state in _ENDED_WELL:  # they cannot change, and a sweep that was stopped may get more jobs
            params = shared([job.params for job in self._track.jobs.values()])
        self._client.log_batch(
            parent,
            metrics=[one for one in _metrics(verdict, best) if there.metrics.get(one.key) != one.value],
            params=[Param(key, value) for key, value in params.items() if key not in there.params],
            tags=[RunTag(key, shortened(value)) for key, value in tags.items()],
        )

    def _registered(self, verdict: Verdict, best: JobOutcome | None, run: str) -> str | None:
        name, file = self._track.registry, verdict.file
        if name is None or file is None or best is None:
            return None
        folder = PurePosixPath(file).parent.relative_to(PurePosixPath(self._track.jobs[str(verdict.job)].dir))
        tags = {"sweep": self._track.sweep, "file": PurePosixPath(file).name}
        if best.score is not None:
            tags[BEST_RELATIVE] = f"{best.score:.6g}"
        return register(self._client, name, run_id=run, folder=folder, about=verdict.sentence, tags=tags)

    def _wanted_view(self) -> View:
        images, step = self._pictures()
        return View(
            name=names_of(self._track)[PARENT],
            parent=self._runs.parent().id,
            swept=swept_keys([job.params for job in self._track.jobs.values()]),
            images=images,
            step=step,
        )

    def _pictures(self) -> tuple[tuple[str, ...], int]:
        """Keys of what was drawn, and the last step at which most runs have it: of as many as the view shows."""
        children = [run for key, run in self._runs.known() if key != PARENT][:MOST_RUNS]
        drawn = [self._runs.images_of(run).whole for run in children]
        every = sorted({key for one in drawn for key, _ in one}, key=lambda key: (key.endswith(_OF_THE_BASE), key))
        keys = every[:_MOST_ROWS_OF_PICTURES]
        steps = Counter(step for one in drawn for step in {step for _, step in one})
        step = max(steps, key=lambda one: (steps[one], one), default=0)
        return tuple(key.replace("~", "/") for key in keys), step

    def _linked(self, outcomes: Sequence[JobOutcome]) -> notes.Linked:
        experiment, parent = self._runs.store.experiment_id, self._runs.parent().id
        named = names_of(self._track)
        files = {path.name for path in artifacts_of(self._dir)} if outcomes else set()
        return notes.Linked(
            view=address_of_view(experiment, self._track.sweep) if len(self._track.jobs) > 1 else None,
            runs={
                one.job: address_of_run(experiment, self._track.runs[str(one.job)])
                for one in outcomes
                if str(one.job) in self._track.runs
            },
            names={one.job: named[str(one.job)] for one in outcomes if str(one.job) in named},
            picture=_artifact(parent, PICTURE) if PICTURE in files else None,
            report=address_of_file(experiment, parent, REPORT) if REPORT in files else None,
        )

    def _note(self, run_id: str, text: str, over: tuple[str, ...] | None = None) -> None:
        """Write it over any of ours, or over those that are given; not over what somebody wrote."""
        tags = self._client.get_run(run_id).data.tags
        there = tags.get(notes.NOTE, "")
        ours = there in ("", notes.AXIS) or tags.get(_NOTED) == _mark(there)
        if there in over if over is not None else ours:
            text = shortened(text)
            self._client.set_tag(run_id, notes.NOTE, text)
            self._client.set_tag(run_id, _NOTED, _mark(text))

    def _outcomes(self) -> list[JobOutcome]:
        try:
            return read_outcomes(self._dir)
        except StoredError:
            return []


def _artifact(run_id: str, path: str) -> str:
    """Where the server has a file of a run."""
    return f"get-artifact?{urlencode({'path': path, 'run_uuid': run_id})}"


def _mark(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _metrics(verdict: Verdict | None, best: JobOutcome | None) -> list[Metric]:
    from mlflow.entities import Metric

    told: dict[str, float | int | None] = {}
    if verdict is not None and verdict.against:
        near = verdict.against[0]
        told = {"best/percent": near.percent, "best/percent_low": near.low, "best/percent_high": near.high}
    if best is not None and best.summary is not None:
        summary = best.summary
        told |= {BEST_RELATIVE: summary.compared, "val/loss_best": summary.loss}
        told["adapter/best_step"] = summary.best_step
    now = int(time.time() * 1000)
    return [Metric(key, float(value), now, 0) for key, value in told.items() if value is not None]


def artifacts_of(sweep_dir: Path) -> list[Path]:
    """Files of a whole sweep that its own run has a copy of."""
    names = ("sweep.json", "results.json", "verdict.json", PICTURE, REPORT)
    return [sweep_dir / name for name in names if (sweep_dir / name).is_file()]
