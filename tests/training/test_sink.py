"""What a worker tells of a training."""

from __future__ import annotations

from pathlib import Path

from lora_foundry.training.sink import ListSink, warn
from lora_foundry.wire.events import LogEvent, TagsEvent


def test_a_warning_is_a_line_and_a_tag_on_the_run(tmp_path: Path) -> None:
    sink = ListSink(tmp_path)
    warn(sink, 3, "captions", "2 captions are cut")
    text = "2 captions are cut"
    line, tags = sink.events
    assert line == LogEvent(t=line.t, job=3, level="warning", message=text)
    assert tags == TagsEvent(t=tags.t, job=3, values={"warning.captions": text})
