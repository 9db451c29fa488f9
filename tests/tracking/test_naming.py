"""Runs are called by what tells them apart."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lora_foundry.config.swept import in_short, short_names
from lora_foundry.tracking.naming import names_of
from lora_foundry.tracking.processes import ProcessMark
from lora_foundry.tracking.trackfile import PARENT, TrackedJob, TrackFile


def a_track(*points: Mapping[str, str], run_name: str | None = None) -> TrackFile:
    """Of a sweep with these jobs."""
    jobs = {
        str(n): TrackedJob(name=f"n{n}", dir=str(n), pack="pack-0", overrides=dict(point), params={})
        for n, point in enumerate(points)
    }
    told = {"sweep": "20260101-120000-abc", "command": "train", "asked": [None, "mlruns"], "uri": "sqlite:////x.db"}
    mark = ProcessMark(host="h", pid=1, started=0.0)
    return TrackFile(**told, root="/x", experiment="e", launcher=mark, run_name=run_name, jobs=jobs)  # type: ignore[arg-type]


def test_a_job_is_called_what_was_swept_and_the_sweep_what_it_swept() -> None:
    points = [{"data": "flat", "lora.rank": rank, "optimizer.lr": lr} for rank in "48" for lr in ("0.001", "2e-3")]
    assert names_of(a_track(*points)) == {
        **{"0": "rank=4 lr=1e-3", "1": "rank=4 lr=2e-3", "2": "rank=8 lr=1e-3", "3": "rank=8 lr=2e-3"},
        PARENT: "rank x lr 20260101-120000-abc",
    }


def test_where_nothing_was_swept_the_adapters_name_serves() -> None:
    assert names_of(a_track({"lora.rank": "4"})) == {"0": "n0", PARENT: "n0 20260101-120000-abc"}
    assert names_of(a_track({"name": "a"}, {"name": "b"})) == {"0": "n0", "1": "n1", PARENT: "n0 20260101-120000-abc"}


def test_jobs_that_are_swept_alike_have_their_numbers_and_one_without_a_key_leaves_it_out() -> None:
    found = names_of(a_track({"seed": "1"}, {"seed": "1"}, {"seed": "2"}, {}))
    assert [found[key] for key in "0123"] == ["seed=1 #0", "seed=1 #1", "seed=2", "n3"]


def test_a_name_that_somebody_gave_the_sweep_is_its_name() -> None:
    assert names_of(a_track({"seed": "1"}, {"seed": "2"}, run_name="tuesday"))[PARENT] == "tuesday"


@pytest.mark.parametrize(
    ("value", "short"),
    [
        *(("0.001", "1e-3"), ("0.00025", "2.5e-4"), ("3e-4", "3e-4"), ("0.05", "0.05"), ("8", "8"), ("0.10", "0.1")),
        *(("0", "0"), ("200000", "2e5"), ("123456", "1.23456e5"), ("0.0012345678", "0.0012345678"), ("nan", "nan")),
        *(("2x", "2x"), ("true", "true"), ("./" + "a" * 50, "..." + "a" * 37)),
    ],
)
def test_values_are_written_as_short_as_they_can_be_without_losing_a_digit(value: str, short: str) -> None:
    assert in_short(value) == short


def test_keys_that_would_be_called_alike_keep_their_whole_names() -> None:
    assert short_names(["lora.dropout", "data.path", "model.path"]) == {
        "lora.dropout": "dropout",
        "data.path": "data.path",
        "model.path": "model.path",
    }
