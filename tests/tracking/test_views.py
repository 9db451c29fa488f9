"""A sweep's jobs side by side, as MLflow's page keeps such a view."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from lora_foundry.tracking.views import View, address_of_view, tag_of

KEYS = tuple(f"samples/{word}-s0/scale 1" for word in ("cat", "heart"))


def _state(view: View) -> dict[str, Any]:
    told = json.loads(view.stored(5))
    assert (told["name"], told["createdAt"]) == (view.name, 5)
    packed = told["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_a_view_shows_the_jobs_alone_the_best_first_with_what_was_swept() -> None:
    state = _state(View(name="rank x lr", parent="abc", swept=("lora.rank", "optimizer.lr"), images=KEYS, step=64))
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = 'abc'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/loss_rel_best`", True)
    assert "params.`optimizer.lr`" in state["selectedColumns"]
    charts = {chart["uuid"]: chart for chart in state["compareRunCharts"]}
    assert charts["compared"]["selectedParams"] == ["lora.rank", "optimizer.lr"]
    assert charts["compared"]["selectedMetrics"] == ["val/loss_rel_best"]
    assert (charts["pictures"]["imageKeys"], charts["pictures"]["step"]) == (list(KEYS), 64)
    assert not charts["pictures"]["showRunParams"]
    places = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in charts.values()} <= places
    shown = [section["uuid"] for section in state["compareRunSections"] if section["display"]]
    assert shown == ["compared", "curves", "pictures"]


def test_each_picture_is_in_the_grid_and_has_no_card_of_its_own() -> None:
    state = _state(View(name="x", parent="abc", swept=("seed",), images=KEYS))
    own = [chart["imageKeys"] for chart in state["compareRunCharts"] if chart["deleted"]]
    assert own == [[key] for key in KEYS]
    without = _state(View(name="x", parent="abc", swept=("seed",)))
    assert "pictures" not in {chart["uuid"] for chart in without["compareRunCharts"]}
    assert "pictures" not in {section["uuid"] for section in without["compareRunSections"]}


def test_a_view_fits_a_tag_however_many_pictures_there_are() -> None:
    many = tuple(f"samples/{base64.b64encode(bytes([n, 7 * n % 256, n ^ 91] * 30)).decode()}" for n in range(200))
    view = View(name="x", parent="abc", swept=("seed",), images=many)
    assert len(view.stored(0)) <= 5000
    assert 0 < sum(chart["type"] == "IMAGE" for chart in _state(view)["compareRunCharts"]) < len(many)


def test_the_address_leads_to_the_view_with_its_charts() -> None:
    assert address_of_view("3", "s1") == (
        "#/experiments/3/runs?viewStateShareKey=s1&compareRunsMode=CHART&workflowType=machine_learning"
    )
    assert tag_of("s1") == "mlflow.sharedViewState.s1"
