"""One rule for "best", wherever it is told."""

from __future__ import annotations

import io
import math
from pathlib import Path

from lora_foundry.config.best import best, score
from lora_foundry.launch.records.results import JobOutcome
from lora_foundry.launch.screen.live import PatientConsole
from lora_foundry.launch.screen.table import best_of, print_results
from lora_foundry.report.comparison import _member_columns
from lora_foundry.report.results import JobResult

# A sweep over model.prediction_type: the base predicts v, so losses of jobs that train it as epsilon are of another
# quantity. Job 1 has the lowest loss (1.0833), job 4 the lowest over its base's (0.9868).
SUMMARIES = {
    0: {"val_loss": 1.4628, "val_loss_rel": 0.9871},
    1: {"val_loss": 1.0833, "val_loss_rel": 0.9920},
    4: {"val_loss": 1.4630, "val_loss_rel": 0.9868},
}


def test_the_lowest_relative_loss_is_best_whatever_the_loss() -> None:
    assert best(SUMMARIES) == 4


def test_what_has_no_number_is_not_compared_and_of_equals_the_first_is_best() -> None:
    rows = {
        0: None,
        1: {},
        2: {"val_loss_rel": None},
        3: {"val_loss_rel": math.nan},
        4: {"val_loss_rel": True},
        5: {"val_loss_rel": "0.1"},
    }
    assert [score(row) for row in rows.values()] == [None] * 6
    assert best(rows) is None
    assert best({**rows, 7: {"val_loss_rel": 0.9}, 8: {"val_loss_rel": 0.9}}) == 7


def test_table_and_picture_mark_the_same_job() -> None:
    def told(number: int, summary: dict) -> dict:
        return {
            "index": number,
            "name": f"n{number}",
            "dir": Path(str(number)),
            "state": "FINISHED",
            "overrides": {},
            "rank": 4,
            "summary": summary,
            "error": None,
        }

    outcomes = [JobOutcome(**told(number, summary)) for number, summary in SUMMARIES.items()]
    marked = best_of(outcomes)
    assert marked is not None
    assert marked.index == 4
    text = io.StringIO()
    print_results(PatientConsole(file=text, width=120), Path("/far"), outcomes, {})
    assert "n4 *" in text.getvalue()
    assert "Best by validation loss over the base's: n4" in text.getvalue()
    columns = _member_columns([], [JobResult(**told(number, summary)) for number, summary in SUMMARIES.items()])
    assert [column.title for column in columns if column.best] == ["n4"]
