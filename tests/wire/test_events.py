"""Reading a spool while its writer still writes."""

from __future__ import annotations

import json
from math import nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_foundry.wire.by_item import ByItem
from lora_foundry.wire.events import (
    EVENTS,
    Alive,
    ArtifactEvent,
    Event,
    JudgedEvent,
    LogEvent,
    MetricsEvent,
    PackEnded,
    ProgressEvent,
    StateEvent,
    read_events,
)

FIRST = StateEvent(t=1.0, job=0, state="RUNNING")
SECOND = LogEvent(t=2.0, level="info", message="grüße\nzwei")


def line(event: Event | dict[str, object]) -> bytes:
    return EVENTS.written(event) if isinstance(event, Event) else json.dumps(event).encode() + b"\n"


def test_a_spool_that_is_not_there_yet_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl", 7) == ([], 7)


def test_whole_lines_are_read_once(tmp_path: Path) -> None:
    spool = tmp_path / "s.jsonl"
    spool.write_bytes(line(FIRST) + line(SECOND))
    events, offset = read_events(spool)
    assert events == [FIRST, SECOND]
    assert read_events(spool, offset) == ([], offset)
    spool.write_bytes(spool.read_bytes() + line(FIRST))
    assert read_events(spool, offset)[0] == [FIRST]


def test_a_torn_last_line_stays_for_the_next_read(tmp_path: Path) -> None:
    spool = tmp_path / "s.jsonl"
    whole = line(FIRST) + line(SECOND)
    for cut in range(len(line(FIRST)), len(whole)):
        spool.write_bytes(whole[:cut])
        events, offset = read_events(spool)
        assert (events, offset) == ([FIRST], len(line(FIRST)))
        spool.write_bytes(whole)
        assert read_events(spool, offset) == ([SECOND], len(whole))


def test_a_line_left_half_by_a_kill_and_written_past_costs_only_itself(tmp_path: Path) -> None:
    spool = tmp_path / "s.jsonl"
    spool.write_bytes(line(FIRST)[:10] + b"\n" + line(SECOND))
    assert read_events(spool)[0] == [SECOND]


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    spool = tmp_path / "s.jsonl"
    spool.write_bytes(b"\n[1]\n\xff\xfe\n7\n" + line({"kind": "unheard-of"}) + line({"t": 1}) + line(FIRST))
    assert read_events(spool)[0] == [FIRST]


def test_the_kinds_are_the_protocols() -> None:
    tags = {kind.tag for kind in EVENTS.types}
    of_training = {"state", "metrics", "judged", "forked", "progress", "memory"}
    assert tags == {"worker", *of_training, "tags", "image", "artifact", "log"}


@pytest.mark.parametrize(
    ("event", "written"),
    [
        (FIRST, '{"t": 1.0, "kind": "state", "job": 0, "state": "RUNNING", "error": null, "summary": null}'),
        (Alive(t=1.0, work=3), '{"t": 1.0, "kind": "worker", "job": null, "state": "alive", "work": 3}'),
        (
            PackEnded(t=1.0, pack="p", jobs=(0, 1)),
            '{"t": 1.0, "kind": "worker", "job": null, "state": "pack_ended", "pack": "p", "jobs": [0, 1]}',
        ),
        (
            ProgressEvent(t=1.0, job=0, step=1, total=2, samples=3, loss=nan, samples_per_s=1.5, memory_gib=0.5),
            '{"t": 1.0, "kind": "progress", "job": 0, "step": 1, "total": 2, "samples": 3, "loss": null, '
            '"samples_per_s": 1.5, "memory_gib": 0.5}',
        ),
        (
            MetricsEvent(t=1.0, job=0, step=1, samples=2, values={"train/loss": nan, "train/lr": 0.5}),
            '{"t": 1.0, "kind": "metrics", "job": 0, "step": 1, "samples": 2, '
            '"values": {"train/loss": null, "train/lr": 0.5}}',
        ),
        (
            ArtifactEvent(t=1.0, job=0, path="0/a", folder="adapter"),
            '{"t": 1.0, "kind": "artifact", "job": 0, "path": "0/a", "folder": "adapter"}',
        ),
    ],
)
def test_the_bytes_of_a_spool_are_those_of_sweeps_made_before(event: Event, written: str) -> None:
    assert EVENTS.written(event) == written.encode() + b"\n"


@pytest.mark.slow
@given(
    messages=st.lists(st.text(max_size=20), max_size=8),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_reading_at_any_moments_gives_each_event_once_in_order(
    tmp_path: Path, messages: list[str], cuts: list[int]
) -> None:
    written = [LogEvent(t=1.0, job=number, level=None, message=text) for number, text in enumerate(messages)]
    whole = b"".join(line(event) for event in written)
    spool = tmp_path / "s.jsonl"
    read, offset = [], 0
    for cut in [*sorted(cuts), len(whole)]:
        spool.write_bytes(whole[:cut])
        events, offset = read_events(spool, offset)
        read += events
    assert read == written


def test_a_validation_is_told_image_by_image_in_one_line() -> None:
    of = ByItem(step=3, samples=12, rows="r", items=("a.png", "b.png"), relative=(0.25, 1.0), base=(0.5, 1.5))
    assert EVENTS.written(JudgedEvent(t=1.0, job=0, by_item=of)) == (
        b'{"t": 1.0, "kind": "judged", "job": 0, "by_item": {"step": 3, "samples": 12, "rows": "r", '
        b'"items": ["a.png", "b.png"], "relative": [0.25, 1.0], "base": [0.5, 1.5]}}\n'
    )
    assert of.mean == 0.625


def test_a_validation_that_is_not_finite_is_no_event() -> None:
    of = ByItem(step=3, samples=12, rows="r", items=("a",), relative=(nan,), base=(1.0,))
    assert EVENTS.read(EVENTS.written(JudgedEvent(job=0, by_item=of))) is None
