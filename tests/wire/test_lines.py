"""Lines from types and back: what is kept, what is passed over, and what stands on the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from lora_foundry.wire.fields import Form
from lora_foundry.wire.journal import (
    JOURNAL,
    GainLine,
    HeadLine,
    JobLine,
    MemoryLine,
    PackLine,
    WaitingLine,
    WorkerLine,
)
from lora_foundry.wire.lines import Kinds, Line, Loose, TimedLine, read_new
from lora_foundry.wire.states import AS_MEANT, ENDED
from tests.wire.summaries import summary

JOB = {"t": 1.5, "event": "job", "job": 3, "state": "FAILED", "error": "x", "summary": None}


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (JobLine(t=1.5, job=3, state="FAILED", error="x", summary=None), json.dumps(JOB)),
        (
            PackLine(t=1.0, pack="pack-0", jobs=(0, 1), rows=2),
            '{"t": 1.0, "event": "pack", "pack": "pack-0", "jobs": [0, 1], "rows": 2}',
        ),
        (
            PackLine(t=1.0, pack="p", jobs=(0,), rows=2, predicted_s=3.5),
            '{"t": 1.0, "event": "pack", "pack": "p", "jobs": [0], "rows": 2, "predicted_s": 3.5}',
        ),
        (
            WorkerLine(t=1.0, state="left", pid=7, code=0),
            '{"t": 1.0, "event": "worker", "state": "left", "pid": 7, "code": 0}',
        ),
        (
            MemoryLine(t=1.0, job=0, rung="split", step=4, reason="r", values={"rows": 2}),
            '{"t": 1.0, "event": "memory", "job": 0, "rung": "split", "step": 4, "reason": "r", "values": {"rows": 2}}',
        ),
        (WaitingLine(t=1.0, lines=()), '{"t": 1.0, "event": "waiting", "lines": []}'),
        (HeadLine(t=1.0, format=1), '{"t": 1.0, "event": "journal", "format": 1}'),
    ],
)
def test_the_bytes_of_the_journal_are_those_of_sweeps_made_before(line: Line, written: str) -> None:
    assert JOURNAL.written(line) == written.encode() + b"\n"  # type: ignore[arg-type]
    assert JOURNAL.read(written) == line


@pytest.mark.parametrize(
    "changed",
    [
        {"event": "of a later version"},
        {"event": ["job"]},
        {"event": None},
        {"t": "today"},
        {"t": None},
        {"job": "3"},
        {"job": True},
        {"job": 3.0},
        {"job": None},
        {"state": "ELSEWHERE"},
        {"state": ["FAILED"]},
        {"error": 5},
        {"summary": [1]},
    ],
    ids=str,
)
def test_a_line_with_something_else_in_a_fields_place_is_passed_over(changed: Mapping[str, object]) -> None:
    assert JOURNAL.parsed(JOB | changed) is None
    assert list(JOURNAL.read_all([json.dumps(JOB | changed).encode(), json.dumps(JOB).encode()])) == [
        JOURNAL.parsed(JOB)
    ]


@pytest.mark.parametrize(
    "garbage", [b"", b"\0\0", b"\xff\xfe{}", b"[1]", b"null", b"7", b'{"event": 5}', b"[" * 100_000]
)
def test_garbage_is_no_line(garbage: bytes) -> None:
    assert JOURNAL.read(garbage) is None


def test_a_missing_key_is_null_and_an_unknown_one_is_passed_over() -> None:
    short = {key: JOB[key] for key in ("t", "event", "job", "state")}
    assert JOURNAL.parsed(short) == JobLine(t=1.5, job=3, state="FAILED", error=None, summary=None)
    assert JOURNAL.parsed(JOB | {"of_a_later_version": {"a": 1}}) == JOURNAL.parsed(JOB)


@pytest.mark.parametrize("rows", [None, "many", 1.5, [2], True])
def test_a_loose_field_costs_nobody_the_line(rows: object) -> None:
    line = JOURNAL.parsed({"t": 1, "event": "pack", "pack": "p", "jobs": [1], "rows": rows})
    assert line == PackLine(t=1, pack="p", jobs=(1,), rows=None)


@pytest.mark.parametrize("seconds", [{"8": "soon"}, {"8": math.nan}, {"8": None}, {"8": True}, [0.1]])
def test_the_entries_of_a_mapping_are_of_its_type(seconds: object) -> None:
    gain = {"t": 1, "event": "gain", "key": "k", "members": 8, "chosen": 4, "ratio": 1, "seconds": {"8": 0.1, "4": 1}}
    assert isinstance(JOURNAL.parsed(gain), GainLine)
    assert JOURNAL.parsed(gain | {"seconds": seconds}) is None


def test_what_json_has_no_word_for_is_null() -> None:
    told = replace(summary(memory={"c": math.nan}, d=1.5), val_loss=math.inf)
    line = JobLine(t=1.0, job=0, state="FINISHED", error=None, summary=told)
    written = json.loads(JOURNAL.written(line))["summary"]
    assert {name: written[name] for name in ("val_loss", "memory", "d")} == {
        **{"val_loss": None, "memory": {"c": None}, "d": 1.5}
    }


def test_lines_of_one_tag_are_told_apart_by_their_state() -> None:
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Came(Line):
        tag: ClassVar[str] = "worker"
        state: Literal["came"] = "came"
        at: Path

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Went(Line):
        tag: ClassVar[str] = "worker"
        state: Literal["went"] = "went"
        code: Loose[int]

    kinds = Kinds[Line]("kind", (Came, Went))
    assert kinds.written(Went(code=3)) == b'{"kind": "worker", "state": "went", "code": 3}\n'
    assert kinds.read(kinds.written(Came(at=Path("a/b")))) == Came(at=Path("a/b"))
    assert kinds.read(kinds.written(Went(code=3))) == Went(code=3)
    for state in ('"stayed"', "null", "[]"):
        assert kinds.read(f'{{"kind": "worker", "state": {state}, "code": 3}}') is None


def test_a_type_that_no_line_is_made_of_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        parts: set[int]

    with pytest.raises(TypeError, match=r"set\[int\], which no line is made of"):
        Form(Odd)


def test_every_kind_is_frozen_and_keyword_only() -> None:
    for kind in JOURNAL.types:
        assert all(field.kw_only for field in fields(kind)), kind
        assert kind.tag
        assert issubclass(kind, TimedLine)
    with pytest.raises(FrozenInstanceError):
        HeadLine(format=1).format = 2  # type: ignore[misc]


def test_an_end_is_a_state_after_which_nothing_comes() -> None:
    assert ENDED == ("FINISHED", "FAILED", "KILLED", "PRUNED")
    assert AS_MEANT == ("FINISHED", "PRUNED"), "neither is trained again, nor complained of"


def test_a_torn_last_line_stays_for_the_next_read(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"1\n2\n3")
    assert read_new(file) == ([b"1", b"2"], 4)
    file.write_bytes(b"1\n2\n3\n")
    assert read_new(file, 4) == ([b"3"], 6)
    with pytest.raises(FileNotFoundError):
        read_new(tmp_path / "none")
