"""What a worker tells of a training."""

from __future__ import annotations

from pathlib import Path

from src.training.sink import ListSink, warn


def test_a_warning_is_a_line_and_a_tag_on_the_run(tmp_path: Path) -> None:
    sink = ListSink(tmp_path)
    warn(sink, 3, "captions", "2 captions are cut")
    assert sink.events == [
        {"kind": "log", "job": 3, "level": "warning", "message": "2 captions are cut"},
        {"kind": "tags", "job": 3, "values": {"warning.captions": "2 captions are cut"}},
    ]
