"""Which job is best: one rule, wherever it is told."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from lora_foundry.judge.ranking import best_of
from lora_foundry.judge.verdict import verdict_of
from lora_foundry.launch.screen.live import PatientConsole
from lora_foundry.launch.screen.table import print_results
from lora_foundry.report.comparison import _member_columns
from tests.judge.outcomes import outcome


def test_the_lowest_of_those_that_finished_is_best_and_of_equals_the_first() -> None:
    ended = replace(outcome(3, 0.1), state="PRUNED")
    assert best_of([outcome(0, 0.5), outcome(1, None), outcome(2, 0.4), ended]) == outcome(2, 0.4)
    assert best_of([outcome(4, 0.5), outcome(1, 0.5)]) == outcome(4, 0.5)
    assert best_of([ended]) is None


def test_table_and_picture_mark_the_job_that_the_verdict_names() -> None:
    outcomes = [outcome(1, 0.9920), outcome(4, 0.9868), outcome(0, 0.9871)]
    text = io.StringIO()
    print_results(PatientConsole(file=text, width=120), Path("/far"), outcomes, {})
    assert [line for line in text.getvalue().splitlines() if "n4 *" in line]
    assert "Best:     n4 has the lowest loss over the base's" in text.getvalue()
    columns = _member_columns([], outcomes, verdict_of(outcomes))
    assert [column.title for column in columns if column.best] == ["n4"]
