"""What is written can be read while it is written, and after a kill."""

from __future__ import annotations

import json
from pathlib import Path

from lora_foundry.wire.events import LogEvent, MetricsEvent, StateEvent, read_events
from lora_foundry.worker.spool import Spool


def test_events_are_read_as_they_come(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool" / "p.jsonl", tmp_path)
    spool.emit(MetricsEvent(job=0, step=1, samples=1, values={"train/loss": float("nan"), "train/lr": 0.5}))
    events, offset = read_events(tmp_path / "spool" / "p.jsonl")
    assert events[0].values == {"train/loss": None, "train/lr": 0.5}
    spool.emit(StateEvent(job=0, state="FINISHED"))
    more, _ = read_events(tmp_path / "spool" / "p.jsonl", offset)
    assert [event.state for event in more] == ["FINISHED"]
    assert more[0].t >= events[0].t > 1e9
    spool.close()


def test_a_line_that_a_kill_left_torn_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"t": 1, "kind": "log", "job": 0, "message": "before"}) + '\n{"t": 2, "kind": "lo')
    spool = Spool(path, tmp_path)
    spool.emit(LogEvent(job=1, level="info", message="after"))
    spool.close()
    events, offset = read_events(path)
    assert [event.job for event in events] == [0, 1]
    assert offset == path.stat().st_size
