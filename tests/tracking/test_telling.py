"""What the sweep's own run, and the winner's, tell of all jobs together."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence

import pytest

from lora_foundry.judge.verdict import verdict_of
from lora_foundry.tracking import SweepWriter
from lora_foundry.tracking.notes import AXIS, NOTE
from lora_foundry.tracking.views import address_of_view, tag_of
from lora_foundry.wire.outcomes import write_outcomes
from lora_foundry.wire.verdict import Verdict, write_verdict
from tests.judge.outcomes import outcome
from tests.tracking.fake_sweep import Recorded, Sweep

MakeSweep = Callable[..., Sweep]
Record = Callable[..., SweepWriter]
STATES = {0: "FINISHED", 1: "FINISHED"}

pytestmark = pytest.mark.slow


def _ended(sweep: Sweep, *losses: Sequence[float]) -> Verdict:
    """Results and verdict of a sweep whose jobs had these losses, image by image."""
    outcomes = [outcome(n, values, name=sweep.records[n].name) for n, values in enumerate(losses)]
    found = verdict_of(outcomes)
    assert found is not None
    write_outcomes(sweep.dir, outcomes)
    write_verdict(sweep.dir, found)
    return found


def test_an_ended_sweep_names_its_winner_wherever_somebody_looks(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=2)
    for job in range(2):
        sweep.write("tags", job, values={"base_hash": "b" * 64, "data_hash": "d1"})
        sweep.metrics(job, 0, train__loss=0.5, val__loss=0.2, val__loss_rel=1.0)
        sweep.picture(job, 9)
    (sweep.dir / "report.html").write_text("<p>all of it</p>")
    (sweep.dir / "comparison.png").write_bytes(b"png")
    found = _ended(sweep, [0.6, 0.61, 0.6], [0.3, 0.31, 0.29])
    writer = record(sweep, STATES)
    recorded = Recorded(sweep)
    assert writer.view == address_of_view(recorded.parent.info.experiment_id, sweep.id)
    parent, winner, loser = recorded.parent, recorded.children[1], recorded.children[0]

    assert (winner.info.run_name, loser.info.run_name) == ("rank=8 (best)", "rank=4")
    assert (winner.data.tags["best"], loser.data.tags.get("best")) == ("true", None)
    assert parent.info.run_name == f"rank {sweep.id}"
    assert winner.data.params == {"lora.rank": "8"}
    assert parent.data.params == {"swept": "lora.rank", "lora.rank": "4, 8"}
    assert parent.data.metrics["val/loss_rel_best"] == pytest.approx(0.3)
    near = found.against[0]
    told = [parent.data.metrics[f"best/percent{end}"] for end in ("_low", "", "_high")]
    assert told == [near.low, near.percent, near.high]
    assert (parent.data.tags["best"], parent.data.tags["verdict"]) == ("flat-rank8", found.sentence)
    assert parent.data.tags["best_run"] == winner.info.run_id
    assert next(iter(loser.data.metrics)) == "val/loss_rel", "the first is what MLflow compares by"

    inputs = {one.dataset.name: one for one in winner.inputs.dataset_inputs}
    base, data = sweep.records[1].config.model.name, sweep.records[1].config.data.name
    assert {name: one.dataset.digest for name, one in inputs.items()} == {base: "b" * 36, data: "d1"}
    assert [one.value for one in inputs[base].tags] == ["base"]

    note = parent.data.tags[NOTE]
    assert note.startswith("**keep flat\\-rank8: \\-")
    assert f"[rank=8](#/experiments/{parent.info.experiment_id}/runs/{winner.info.run_id}?" in note
    assert f"(get-artifact?path=comparison.png&run_uuid={parent.info.run_id})" in note
    assert f"(#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}/artifacts/report.html?" in note
    assert note.endswith(AXIS)
    assert winner.data.tags[NOTE].startswith("**The one to keep of its sweep**")
    files = {item.path for item in recorded.client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "comparison.png", "results.json", "verdict.json"} <= files

    experiment = recorded.client.get_experiment(parent.info.experiment_id)
    assert f'"name": "rank {sweep.id}"' in experiment.tags[tag_of(sweep.id)]


def test_what_somebody_wrote_stays_and_another_winner_takes_the_mark(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=2)
    _ended(sweep, [0.6, 0.61, 0.6], [0.3, 0.31, 0.29])
    record(sweep, STATES)
    before = Recorded(sweep)
    before.client.set_tag(before.parent.info.run_id, NOTE, "mine")
    before.client.update_run(before.children[0].info.run_id, name="my favourite")
    record(sweep, STATES)
    _ended(sweep, [0.2, 0.21, 0.2], [0.3, 0.31, 0.29])
    record(sweep, STATES)
    recorded = Recorded(sweep)
    assert recorded.parent.data.tags[NOTE] == "mine"
    names = {job: run.info.run_name for job, run in recorded.children.items()}
    assert names == {0: "my favourite", 1: "rank=8"}
    parent = recorded.parent.info.run_id
    losses = [one.value for one in recorded.client.get_metric_history(parent, "val/loss_rel_best")]
    assert losses == pytest.approx([0.3, 0.2033], abs=1e-3), "told again where it is another one"
    assert {job: run.data.tags.get("best") for job, run in recorded.children.items()} == {0: "true", 1: None}
    assert recorded.parent.data.tags["best"] == "flat-rank4"


def test_a_sweep_that_is_recorded_again_keeps_the_pictures_of_its_view(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=2)
    sweep.picture(0, 9)
    sweep.picture(1, 3)
    sweep.picture(1, 9)
    views = []
    for _ in range(2):
        record(sweep, STATES)
        recorded = Recorded(sweep)
        views.append(recorded.client.get_experiment(recorded.parent.info.experiment_id).tags[tag_of(sweep.id)])
        (sweep.dir / "tracking.json").unlink()
    states = [json.loads(zlib.decompress(base64.b64decode(json.loads(one)["state"][8:]))) for one in views]
    assert states[0] == states[1]
    (grid,) = [chart for chart in states[1]["compareRunCharts"] if chart["uuid"] == "pictures"]
    assert (grid["imageKeys"], grid["step"]) == (["samples/red heart/scale 1.0"], 36)


def test_a_search_calls_its_jobs_by_what_it_varies_once_it_has_two(make_sweep: MakeSweep, record: Record) -> None:
    sweep = make_sweep(jobs=2)
    every = sweep.records
    sweep.records = every[:1]
    record(sweep, {0: "KILLED"})
    assert Recorded(sweep).children[0].info.run_name == "flat-rank4"
    assert "swept" not in Recorded(sweep).parent.data.params, "a sweep that was stopped may vary more"
    sweep.records = every
    sweep.state(1, "RUNNING")
    record(sweep, STATES)
    recorded = Recorded(sweep)
    assert {job: run.info.run_name for job, run in recorded.children.items()} == {0: "rank=4", 1: "rank=8"}
    assert recorded.parent.info.run_name == f"rank {sweep.id}"
