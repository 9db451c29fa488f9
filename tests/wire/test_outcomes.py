"""What became of jobs: the summary of one in a line, and ``results.json``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config.stored import StoredError
from lora_foundry.wire.events import EVENTS, StateEvent
from lora_foundry.wire.journal import JOURNAL, JobLine
from lora_foundry.wire.outcomes import FILE, JobOutcome, read_outcomes, write_outcomes
from tests.wire.summaries import summary

# As lines of earlier versions hold it, key by key.
TOLD = (
    '{"val_loss": 0.21, "val_loss_rel": 0.83, "steps": 80, "samples": 320, "seconds": 13.5, "bytes": 1234, '
    '"file": "0/adapter/a.safetensors", "diffusers_file": "0/adapter/diffusers/a.safetensors", "best_step": 80, '
    '"samples_per_s": 23.7, "peak_mem_gib": 0.91, "memory": {"micro_batch": 2}}'
)


@pytest.mark.parametrize("told", [TOLD, TOLD.replace("0.21", "null"), TOLD[:-1] + ', "perplexity": 12.5}'])
def test_a_summary_goes_from_the_event_to_the_journal_byte_by_byte(told: str) -> None:
    """What a later version's worker measures is handed on, too."""
    event = '{"t": 1.0, "kind": "state", "job": 0, "state": "FINISHED", "error": null, "summary": ' + told + "}"
    read = EVENTS.read(event)
    assert isinstance(read, StateEvent)
    assert EVENTS.written(read) == event.encode() + b"\n"
    line = JOURNAL.written(JobLine(t=1.0, job=0, state="FINISHED", error=None, summary=read.summary))
    assert told.encode() in line


def test_a_field_with_something_else_in_it_is_null_and_the_others_stay() -> None:
    read = summary(val_loss="low", steps=True, bytes=10, file=["a"])
    assert (read.val_loss, read.steps, read.bytes, read.file, read.more) == (None, None, 10, None, {})


def _outcome(folder: Path) -> JobOutcome:
    return JobOutcome(
        job=3,
        name="n",
        dir=folder / "3",
        state="FINISHED",
        overrides={"lora.rank": "4"},
        rank=4,
        summary=summary(**json.loads(TOLD)),
        error=None,
    )


def test_results_are_what_they_were_and_are_read_again(tmp_path: Path) -> None:
    elsewhere = replace(_outcome(tmp_path), job=4, dir=Path("/far/4"), state="FAILED", summary=None, error="x")
    write_outcomes(tmp_path, [_outcome(tmp_path), elsewhere])
    rows = json.loads((tmp_path / FILE).read_text())
    assert json.dumps(rows[0]) == (
        '{"job": 3, "name": "n", "dir": "3", "state": "FINISHED", "overrides": {"lora.rank": "4"}, "rank": 4, '
        f'"summary": {TOLD}, "error": null}}'
    )
    assert rows[1]["dir"] == "/far/4"
    assert read_outcomes(tmp_path) == [_outcome(tmp_path), elsewhere]


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", '[{"job": 1}]'])
def test_something_else_in_the_place_of_results_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StoredError, match=FILE):
        read_outcomes(tmp_path)


def test_what_did_not_finish_has_no_score_and_no_file(tmp_path: Path) -> None:
    done = _outcome(tmp_path)
    assert (done.score, done.file) == (0.83, "0/adapter/a.safetensors")
    lost = replace(done, state="KILLED")
    assert (lost.score, lost.file) == (None, None)
