"""A sweep that goes on elsewhere on the disk, and one whose ``tracking.json`` is no longer what was written."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lora_foundry.commands import track
from lora_foundry.launch.farm.writer import SafeWriter
from lora_foundry.tracking import SweepWriter
from lora_foundry.tracking.errors import DamagedError
from lora_foundry.tracking.trackfile import DAMAGED, FILE, read_track_file
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def sweep(make_sweep: MakeSweep, record: Callable[..., SweepWriter]) -> Sweep:
    """One whose first job finished and whose second was stopped."""
    made = make_sweep(jobs=2)
    for job, state in ((0, "FINISHED"), (1, "KILLED")):
        made.state(job, "RUNNING")
        made.metrics(job, 1)
        made.state(job, state)
    record(made, {0: "FINISHED", 1: "KILLED"})
    return made


def _tags(sweep: Sweep, name: str) -> dict[str, str]:
    """By job number, the sweep's own under nothing."""
    return {run.data.tags.get("job", ""): run.data.tags[name] for run in Recorded(sweep).runs if name in run.data.tags}


@pytest.mark.slow
def test_tags_follow_a_sweep_that_was_moved(sweep: Sweep) -> None:
    before = _tags(sweep, "sweep_dir")
    assert set(before.values()) == {str(sweep.dir)}
    moved = sweep.dir.with_name("moved")
    sweep.dir.rename(moved)
    assert track.main([str(moved)]) == 0
    sweep.dir = moved
    assert _tags(sweep, "sweep_dir") == dict.fromkeys(before, str(moved))
    assert _tags(sweep, "job_dir") == {"0": str(moved / "0"), "1": str(moved / "1")}


_DAMAGES = {
    "empty": lambda path: path.write_text(""),
    "cut": lambda path: path.write_text(path.read_text()[:200]),
    "binary": lambda path: path.write_bytes(b"\xff\x00\x80" * 9),
    "other shape": lambda path: path.write_text('{"version": 1, "jobs": []}'),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_damaged_file_is_put_aside_and_the_store_says_what_it_holds(
    damage: str, sweep: Sweep, record: Callable[..., SweepWriter], capsys: pytest.CaptureFixture[str]
) -> None:
    _DAMAGES[damage](sweep.dir / FILE)
    assert track.main([str(sweep.dir)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    sweep.metrics(1, 2)
    assert record(sweep, {0: "FINISHED", 1: "FINISHED"}).problem is None
    assert (sweep.dir / DAMAGED).exists()
    recorded = Recorded(sweep)
    assert recorded.statuses() == {-1: "FINISHED", 0: "FINISHED", 1: "FINISHED"}, "the same three runs"
    assert recorded.steps(1, "train/loss") == [4, 8], "nothing twice"


@pytest.mark.slow
def test_any_value_may_be_of_another_kind(sweep: Sweep) -> None:
    text = (sweep.dir / FILE).read_text()
    whole = json.loads(text)
    for key in whole:
        for odd in (5.5, [5], {"0": []}, {"0": {"name": 1}}):
            if key != "version":
                (sweep.dir / FILE).write_text(json.dumps(whole | {key: odd}))
                with pytest.raises(DamagedError):
                    read_track_file(sweep.dir)


@pytest.mark.slow
def test_what_another_version_wrote_is_left_as_it_is_and_training_goes_on(sweep: Sweep) -> None:
    newer = json.dumps(json.loads((sweep.dir / FILE).read_text()) | {"version": 2})
    (sweep.dir / FILE).write_text(newer)
    writer = SafeWriter(sweep.dir, sweep.records, sweep.id, COMMAND)
    writer.start()
    writer.close({})
    assert not writer.active
    assert "another version" in str(writer.problem)
    assert (sweep.dir / FILE).read_text() == newer
