"""A sweep's jobs side by side, as one of the views that MLflow's page of an experiment offers under *Views*.

The page folds a sweep's jobs under its own run, draws nothing of what is folded, and sorts its charts by the letters of
their metrics. A saved view says what to show instead: the jobs alone, what was swept against the loss, the curves that
matter, and the pictures as one grid. MLflow keeps it in a tag of the experiment, in the form of its own page (3.17).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from lora_foundry.config.logged import BEST_RELATIVE, RELATIVE

MOST_RUNS = 20
"""Of as many the page draws curves by itself."""
_TAG = "mlflow.sharedViewState."
_PACKED = "deflate;"
_MOST_LETTERS = 5000  # of a tag of an experiment, in servers older than ours
_CURVES = (RELATIVE, "train/loss", "train/grad_norm")
_COMPARED, _MEASURED, _PICTURES = "compared", "curves", "pictures"
_TITLES = {
    _COMPARED: "what was swept, and what came of it",
    _MEASURED: "curves over samples seen",
    _PICTURES: "the same prompts and seeds in every run",
}
# Sections that the page makes of the metrics' own names; they come after those above, folded.
_FOLDED = ("val", "train", "adapter", "perf")
_MOST_KEYS = 5  # of parallel coordinates
_TRAINING = {"workflowType": "machine_learning"}  # a browser that was never here shows the pages for language models
_HEIGHT, _ROW, _HIGHEST = 360, 165, 1000  # pixels of a card, of a row of pictures, and of a card at most


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What a view shows.

    Attributes:
        name: What it is called.
        parent: MLflow's id of the sweep's own run.
        swept: Parameters that differ between jobs.
        images: Keys of pictures, as MLflow stores them.
        step: At which of their steps.
    """

    name: str
    parent: str
    swept: tuple[str, ...]
    images: tuple[str, ...] = ()
    step: int = 0

    def stored(self, at_ms: int) -> str:
        """As MLflow keeps it, made at ``at_ms``; with fewer pictures where all are too long for a tag."""
        for count in range(len(self.images), -1, -1):
            packed = zlib.compress(json.dumps(self._state(self.images[:count])).encode(), 9)
            state = _PACKED + base64.b64encode(packed).decode()
            told = json.dumps({"name": self.name, "createdAt": at_ms, "updatedAt": at_ms, "state": state})
            if len(told) <= _MOST_LETTERS:
                break
        return told

    def _state(self, images: Sequence[str]) -> Mapping[str, object]:
        params = [f"params.`{key}`" for key in self.swept]
        height = min(_HIGHEST, _HEIGHT + _ROW * max(0, len(images) - 1))
        sized = {_COMPARED: {"columns": 1}, _PICTURES: {"columns": 1, "cardHeight": height}}
        sections = [
            {**_section(name, _TITLES[name], folded=False), **sized.get(name, {})} for name in _sections(images)
        ]
        return {
            "searchFilter": f"tags.`mlflow.parentRunId` = '{self.parent}'",
            "orderByKey": f"metrics.`{BEST_RELATIVE}`",
            "orderByAsc": True,
            "selectedColumns": [f"metrics.`{BEST_RELATIVE}`", *params],
            "runsHiddenMode": "FIRST_20_RUNS",
            "isAccordionReordered": True,
            "compareRunCharts": self._charts(images),
            "compareRunSections": [*sections, *(_section(name, name, folded=True) for name in _FOLDED)],
        }

    def _charts(self, images: Sequence[str]) -> list[dict[str, Any]]:
        charts = [self._parallel()] + [_curve(metric) for metric in _CURVES]
        if images:
            grid = {"imageKeys": list(images), "step": self.step, "showRunParams": False}
            charts.append({**_card(_PICTURES, "IMAGE", _PICTURES), "displayName": "pictures", **grid})
        # A card that was taken away is not made again: each picture is in the grid already.
        charts += [
            {**_card(f"one {key}", "IMAGE", _PICTURES, made=True), "imageKeys": [key], "deleted": True}
            for key in images
        ]
        return charts

    def _parallel(self) -> dict[str, Any]:
        chosen = {"selectedParams": list(self.swept[:_MOST_KEYS]), "selectedMetrics": [BEST_RELATIVE]}
        return {**_card(_COMPARED, "PARALLEL", _COMPARED), "showAllRuns": False, **chosen}


def tag_of(sweep: str) -> str:
    """The tag of the experiment that has the view of a sweep."""
    return f"{_TAG}{sweep}"


def address_of_view(experiment_id: str, sweep: str) -> str:
    """Where a sweep's view is, behind the address of the server."""
    words = urlencode({"viewStateShareKey": sweep, "compareRunsMode": "CHART", **_TRAINING})
    return f"#/experiments/{experiment_id}/runs?{words}"


def address_of_run(experiment_id: str, run_id: str) -> str:
    """Where a run's page is, behind the address of the server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{urlencode(_TRAINING)}"


def address_of_file(experiment_id: str, run_id: str, path: str) -> str:
    """Where a run's page shows one of its artifacts."""
    return f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{path}?{urlencode(_TRAINING)}"


def _sections(images: Sequence[str]) -> list[str]:
    return [name for name in _TITLES if images or name != _PICTURES]


def _section(place: str, title: str, *, folded: bool) -> Mapping[str, object]:
    made = {"isGenerated": folded, "isReordered": not folded, "deleted": False}
    return {"uuid": place, "name": title, "display": not folded, **made}


def _card(place: str, kind: str, section: str, *, made: bool = False) -> dict[str, Any]:
    own = {"runsCountToCompare": MOST_RUNS, "deleted": False, "isGenerated": made}
    return {"uuid": place, "type": kind, "metricSectionId": section, **own}


def _curve(metric: str) -> dict[str, Any]:
    return {
        **_card(metric, "LINE", _MEASURED, made=True),
        **{"metricKey": metric, "selectedMetricKeys": [metric], "displayName": metric, "yAxisKey": "metric"},
        **{"scaleType": "linear", "xAxisKey": "step", "xAxisScaleType": "linear", "lineSmoothness": 0},
        **{"useGlobalXaxisKey": True, "useGlobalLineSmoothing": True, "range": {}, "yAxisExpressions": []},
    }
