"""Reading a spool while its writer still writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.config.events import KINDS, read_events

FIRST = {"t": 1.0, "kind": "state", "job": 0, "state": "RUNNING"}
SECOND = {"t": 2.0, "kind": "log", "job": None, "level": "info", "message": "grüße\nzwei"}


def line(event: object) -> bytes:
    return json.dumps(event).encode() + b"\n"


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
    assert set(KINDS) == {"worker", "state", "metrics", "progress", "tags", "image", "artifact", "memory", "log"}


@pytest.mark.slow
@given(
    messages=st.lists(st.text(max_size=20), max_size=8),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_reading_at_any_moments_gives_each_event_once_in_order(
    tmp_path: Path, messages: list[str], cuts: list[int]
) -> None:
    written = [{"t": 1.0, "kind": "log", "job": number, "message": text} for number, text in enumerate(messages)]
    whole = b"".join(line(event) for event in written)
    spool = tmp_path / "s.jsonl"
    read, offset = [], 0
    for cut in [*sorted(cuts), len(whole)]:
        spool.write_bytes(whole[:cut])
        events, offset = read_events(spool, offset)
        read += events
    assert read == written
