"""``tracking.json`` of a sweep that another version began, or that goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from lora_foundry.tracking import JobRecord
from lora_foundry.tracking.naming import names_of
from lora_foundry.tracking.trackfile import FILE, PARENT, read_track_file
from tests.tracking.fake_sweep import a_job_config
from tests.tracking.test_naming import a_track

LATER = ("run_name", "registry", "names")  # keys that came later


def test_one_of_an_earlier_version_is_read_and_its_runs_are_called_as_they_are_now(tmp_path: Path) -> None:
    a_track({"lora.rank": "4"}, {"lora.rank": "8"}).save(tmp_path)
    stored = json.loads((tmp_path / FILE).read_text())
    earlier = {key: value for key, value in stored.items() if key not in LATER}
    for job in earlier["jobs"].values():
        job.pop("inputs")
        job["params"] = {"lora.alpha": "8.0", "lora.rank": "8"}
    (tmp_path / FILE).write_text(json.dumps(earlier))
    track = read_track_file(tmp_path)
    assert (track.run_name, track.registry, track.names) == (None, None, {})
    assert track.jobs["1"].inputs == {}
    assert names_of(track) == {"0": "rank=4", "1": "rank=8", PARENT: "rank 20260101-120000-abc"}


def test_a_job_that_goes_on_keeps_the_parameters_that_its_run_has(tmp_path: Path) -> None:
    track = a_track({"lora.rank": "4"})
    track.jobs["0"] = replace(track.jobs["0"], params={"lora.alpha": "8.0", "experiment": "mine"})
    config = a_job_config()
    folder = {"dir": tmp_path / "0", "config": config, "pack": "pack-0", "overrides": {"lora.rank": "4"}}
    track.add([JobRecord(index=n, name=f"n{n}", **folder) for n in range(2)], tmp_path)  # type: ignore[arg-type]
    assert track.jobs["0"].params == {"lora.alpha": "8.0", "experiment": "mine", "lora.rank": "4"}
    assert track.jobs["1"].params == {"lora.rank": "4"}
    assert track.jobs["1"].inputs["base"] == config.model.name


def test_what_an_experiments_file_sets_is_a_parameter_and_the_command_line_comes_last(tmp_path: Path) -> None:
    track = a_track()
    given = {"in_files": {"lora.alpha": "4.0", "seed": "7"}, "overrides": {"seed": "0"}}
    folder = {"dir": tmp_path / "0", "config": a_job_config(), "pack": "pack-0"}
    track.add([JobRecord(index=0, name="n0", **folder, **given)], tmp_path)  # type: ignore[arg-type]
    assert track.jobs["0"].params == {"lora.alpha": "4.0", "seed": "0"}
