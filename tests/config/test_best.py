"""One rule for "best", wherever it is told."""

from __future__ import annotations

import io
import math
from pathlib import Path

from lora_foundry.config.best import best, score
from lora_foundry.launch.screen.live import PatientConsole
from lora_foundry.launch.screen.table import best_of, print_results
from lora_foundry.report.comparison import _member_columns
from lora_foundry.wire.outcomes import JobOutcome
from tests.wire.summaries import summary

# A sweep over model.prediction_type: the base predicts v, so losses of jobs that train it as epsilon are of another
# quantity. Job 1 has the lowest loss (1.0833), job 4 the lowest over its base's (0.9868).
SUMMARIES = {
    0: {"val_loss": 1.4628, "val_loss_rel": 0.9871},
    1: {"val_loss": 1.0833, "val_loss_rel": 0.9920},
    4: {"val_loss": 1.4630, "val_loss_rel": 0.9868},
}


def test_the_lowest_relative_loss_is_best_whatever_the_loss() -> None:
    assert best({number: told["val_loss_rel"] for number, told in SUMMARIES.items()}) == 4


def test_what_has_no_number_is_not_compared_and_of_equals_the_first_is_best() -> None:
    told = {0: None, 3: math.nan, 4: True, 5: "0.1"}
    assert [score(one) for one in told.values()] == [None] * 4
    assert best(told) is None
    assert best({**told, 7: 0.9, 8: 0.9}) == 7


def test_table_and_picture_mark_the_same_job() -> None:
    outcomes = [
        JobOutcome(
            job=number,
            name=f"n{number}",
            dir=Path(str(number)),
            state="FINISHED",
            overrides={},
            rank=4,
            summary=summary(**told),
            error=None,
        )
        for number, told in SUMMARIES.items()
    ]
    marked = best_of(outcomes)
    assert marked is not None
    assert marked.job == 4
    text = io.StringIO()
    print_results(PatientConsole(file=text, width=120), Path("/far"), outcomes, {})
    assert "n4 *" in text.getvalue()
    assert "Best by validation loss over the base's: n4" in text.getvalue()
    columns = _member_columns([], outcomes)
    assert [column.title for column in columns if column.best] == ["n4"]
